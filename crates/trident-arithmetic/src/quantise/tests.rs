use proptest::prelude::*;

use super::*;

fn bytes(dim: usize) -> Quantisation {
    Quantisation::new(Element::U8, dim, 0)
}

/// A row and a query in steps, as they are after quantising, and what the score makes of them.
fn found(quantisation: Quantisation, row: &[f32], query: &[f32]) -> (f64, QuantisedRow, QuantisedQuery) {
    let (mut x, mut q) = (Vec::new(), Vec::new());
    let row = quantisation.row(row, &mut x).unwrap();
    let query = quantisation.query(query, &mut q).unwrap();
    let product: i64 = x.iter().zip(&q).map(|(&x, &q)| i64::from(x) * i64::from(q)).sum();
    let score = i64::from(row.norm) - 2 * product;
    assert!(score.abs() <= i64::from(P / 2), "score {score} is not right modulo p");
    let range = quantisation.scores(query.squared, row.shift);
    assert!(range.contains(&(score as i32)), "score {score} counts as impossible");
    let squared = power(row.shift.into()) * score as f64 + query.squared;
    (squared.sqrt() * quantisation.step(), row, query)
}

fn distance(row: &[f32], query: &[f32]) -> f64 {
    row.iter().zip(query).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
}

fn scaled(vector: &[f32], length: f64) -> Vec<f32> {
    let norm = squared(vector).unwrap().sqrt();
    vector.iter().map(|&value| (f64::from(value) / norm * length) as f32).collect()
}

#[test]
fn bytes_are_taken_as_they_are_until_scores_could_reach_half_the_field() {
    let mut out = Vec::new();
    assert_eq!(bytes(3).row(&[0.0, 3.0, 255.0], &mut out), Ok(QuantisedRow { norm: 65_034, shift: 0 }));
    assert_eq!(out, [0, 3, 255]);
    // All 255: 3 * 255² * dim reaches p/2 between these.
    let longest = (HALF / (3.0 * 255.0 * 255.0)) as usize;
    assert!(bytes(longest).row(&vec![255.0; longest], &mut out).is_ok());
    assert!(bytes(longest + 1).row(&vec![255.0; longest + 1], &mut out).is_err());
    assert!(bytes(16_384).row(&vec![0.0; 16_384], &mut out).is_ok());
    assert_eq!(bytes(1).query(&[f32::NAN], &mut out), Err(QuantiseError::NotFinite { at: 0 }));
    assert!(bytes(1).query(&[255.0], &mut out).is_ok());
    let error = bytes(1).query(&[256.0], &mut out).unwrap_err();
    assert_eq!(error, QuantiseError::TooLong { length: 256.0, limit: 255.0 });
}

#[test]
fn a_distance_is_as_wrong_as_rounding_has_moved_row_and_query() {
    let quantisation = Quantisation::new(Element::F32, 4, 3);
    let still = QuantisedQuery { squared: 100.0, moved: 0.0 };
    let moved = QuantisedQuery { moved: 0.75, ..still };
    let more = quantisation.error(moved, 0) - quantisation.error(still, 0);
    assert!(quantisation.error(still, 0) > 0.0);
    assert!((more / quantisation.step() - 0.75).abs() < 1e-9, "{more}");
}

#[test]
fn a_length_that_is_refused_is_told_in_the_units_of_the_query() {
    let quantisation = Quantisation::new(Element::F32, 2, Quantisation::exponent_for(1.0));
    let error = quantisation.query(&[30.0, 40.0], &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("is 50,") && error.ends_with("take up to 5.322"), "{error}");
}

#[test]
fn numbers_are_short_whatever_their_size() {
    for (number, text) in [
        (0.0, "0"),
        (1.0, "1"),
        (0.190_44, "0.1904"),
        (1234.5, "1234"),
        (12_345_678.0, "12350000"),
        (1.0e37, "1e37"),
        (-2.345_67e-9, "-2.346e-9"),
        (f64::INFINITY, "inf"),
    ] {
        assert_eq!(Significant(number).to_string(), text);
    }
}

proptest! {
    /// The middle row is one, and the row in question is from a millionth of it to longer than all that floats can
    /// square.
    #[test]
    fn scores_stay_below_half_the_field_and_distances_within_the_bound(
        row in prop::collection::vec(-1.0f32..1.0, 1..300),
        direction in prop::collection::vec(-1.0f32..1.0, 300),
        length in -6.0f64..30.0,
        asked in 0.0f64..1.0,
        near: bool,
    ) {
        prop_assume!(squared(&row).unwrap() > 1.0e-3 && squared(&direction[..row.len()]).unwrap() > 1.0e-3);
        let quantisation = Quantisation::new(Element::F32, row.len(), Quantisation::exponent_for(1.0));
        let row = scaled(&row, 10f64.powf(length));
        let longest = quantisation.longest_query() * 0.99;
        let query = if near {
            scaled(&row, (10f64.powf(length) * (1.0 + asked / 100.0)).min(longest))
        } else {
            scaled(&direction[..row.len()], longest * asked)
        };
        let (found, row_after, query_after) = found(quantisation, &row, &query);
        let error = (found - distance(&row, &query)).abs();
        let bound = quantisation.error(query_after, row_after.shift);
        prop_assert!(error <= bound, "off by {error}, the bound is {bound}, shift {}", row_after.shift);
        match quantisation.worst_error(row_after.shift) {
            WorstError::Absolute(worst) => prop_assert!(bound <= worst),
            WorstError::Relative(worst) => prop_assert!(error <= worst * distance(&row, &query) && worst < 0.01),
        }
    }

    #[test]
    fn a_row_no_longer_than_the_middle_one_has_no_shift_and_uses_the_range(
        row in prop::collection::vec(-1.0f32..1.0, 1..300),
        magnitude in -120i32..120,
    ) {
        let row: Vec<f32> = row.iter().map(|value| value * 2f32.powi(magnitude)).collect();
        let middle = squared(&row).unwrap();
        prop_assume!(middle > 0.0);
        let quantisation = Quantisation::new(Element::F32, row.len(), Quantisation::exponent_for(middle));
        let mut out = Vec::new();
        let quantised = quantisation.row(&row, &mut out).unwrap();
        prop_assert!(quantised.shift == 0 && quantised.norm > 25_000_000, "{quantised:?}");
        prop_assert!(quantisation.query(&row, &mut out).is_ok());
    }
}

#[test]
fn a_row_that_is_longer_than_any_query_is_never_taken_for_a_near_one() {
    // So many elements that all of them round to zero.
    let dim = 16_384;
    let quantisation = Quantisation::new(Element::F32, dim, Quantisation::exponent_for(1.0));
    for length in [10.0, 100.0, 4_000.0, 1.0e9] {
        let (row, query) = (scaled(&vec![1.0; dim], length), scaled(&vec![1.0; dim], 1.0));
        let (found, row_after, query_after) = found(quantisation, &row, &query);
        let error = quantisation.error(query_after, row_after.shift);
        assert!(
            (found - length + 1.0).abs() <= error && error < length / 20.0,
            "{length}: {found} ± {error}"
        );
    }
}

/// Each of its elements is rounded up by half a step. Before that, the longest query opposite to it would score just
/// below half of the field.
#[test]
fn a_row_that_rounding_makes_too_long_has_a_shift() {
    let dim = 11_849;
    let quantisation = Quantisation::new(Element::F32, dim, Quantisation::exponent_for(1.0));
    let step = quantisation.step() as f32;
    let query: Vec<f32> = (0..dim).map(|at| if at < 6_392 { -401.0 } else { -400.0 } * step).collect();
    let (_, row, _) = found(quantisation, &vec![100.5 * step; dim], &query);
    assert_eq!(row.shift, 1);
    let (_, row, _) = found(quantisation, &vec![100.0 * step; dim], &query);
    assert_eq!(row.shift, 0);
}

#[test]
fn elements_are_rounded_to_the_nearest_integer_and_halves_away_from_zero() {
    let quantisation = Quantisation::new(Element::U8, 1, 0);
    let mut out = Vec::new();
    let values = [0.0, 0.499_999_97, 0.5, 1.499_999_9, 1.5, 2.5, 8_388_607.5, 16_777_217.0, 1e9];
    for value in values.into_iter().flat_map(|value: f32| [value, -value]) {
        let norm = quantisation.round(&[value], 0, &mut out);
        assert_eq!((out[0], norm), (value.round() as i32, f64::from(value.round()).powi(2)), "{value}");
    }
    assert!(quantisation.round(&[-3e38], 0, &mut out) > HALF && out == [i32::MIN]);
}

#[test]
fn the_first_element_that_is_no_finite_number_is_named_in_rows_and_queries() {
    let quantisation = Quantisation::new(Element::F32, 4, 0);
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in 0..4 {
            let mut vector = [1.0, f32::from_bits(1), -0.0, f32::MIN_POSITIVE];
            vector[at..].fill(odd);
            let error = QuantiseError::NotFinite { at };
            assert_eq!(quantisation.row(&vector, &mut Vec::new()), Err(error));
            assert_eq!(quantisation.query(&vector, &mut Vec::new()), Err(error));
        }
    }
}

#[test]
fn the_extra_column_is_of_the_rounded_row_up_to_a_shift_and_of_the_row_itself_above() {
    let quantisation = Quantisation::new(Element::F32, 2, 0);
    let mut seen = [false; 10];
    for power_of_two in 12..20 {
        for step in 0..16_u8 {
            let length = 2f32.powi(power_of_two) * (1.0 + f32::from(step) / 16.0);
            let (row, mut out) = ([length + 0.25, 3.75], Vec::new());
            let QuantisedRow { norm, shift } = quantisation.row(&row, &mut out).unwrap();
            let rounded = out.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
            let own = (squared(&row).unwrap() / power(shift.into())).round();
            let wanted = if shift <= 5 { rounded * power(shift.into()) } else { own };
            assert_eq!(f64::from(norm), wanted, "{row:?} with shift {shift}");
            seen[usize::from(shift).min(9)] |= rounded * power(shift.into()) != own;
        }
    }
    assert!(seen[1..8].iter().all(|seen| *seen), "the two differ: {seen:?}");
}

#[test]
fn the_scores_that_a_row_can_have_end_at_the_query_itself_and_at_the_longest_row() {
    let bytes = bytes(1);
    for query in [0.0_f64, 1.0, 255.0] {
        let squared = query * query;
        let range = bytes.scores(squared, 0);
        assert_eq!(*range.start(), -(squared as i32));
        let longest = (255.0 * 255.0 + HALF).sqrt() - 255.0;
        let most = longest * longest + 2.0 * query * longest;
        assert!((0.0..=1.0).contains(&(f64::from(*range.end()) - most)), "{range:?}, {most}");
    }
    let floats = Quantisation::new(Element::F32, 1, 0);
    for shift in [0, 1, 5, 6, 7, 30] {
        let range = floats.scores(1_000_000.0, shift);
        assert_eq!(*range.start(), -((1_000_000.0 / power(shift.into())) as i32), "{shift}");
        assert_eq!(*range.end() == HALF as i32, shift > 5, "{shift}");
    }
}

#[test]
fn the_exponent_is_the_greatest_with_which_the_middle_row_has_its_steps() {
    let least = f64::from(f32::from_bits(1)).powi(2);
    for (squared, exponent) in [
        (10_900_f64.powi(2), 0),
        (10_900_f64.powi(2) * 1.000_001, -1),
        (10_900_f64.powi(2) / 4.0, 1),
        (0.0, Quantisation::MAX_EXPONENT),
        (f64::INFINITY, -Quantisation::MAX_EXPONENT),
    ] {
        assert_eq!(Quantisation::exponent_for(squared), exponent, "{squared}");
    }
    assert!((160..Quantisation::MAX_EXPONENT).contains(&Quantisation::exponent_for(least)));
}

#[test]
fn numbers_have_an_exponent_below_a_ten_thousandth_and_from_a_thousand_million() {
    for (number, text) in [
        (1.0e-4, "0.0001"),
        (0.000_099_994, "9.999e-5"),
        (0.000_099_999, "0.0001"),
        (-0.000_12, "-0.00012"),
        (999_900_000.0, "999900000"),
        (999_990_000.0, "1e9"),
        (1.0e9, "1e9"),
        (-1.0e9, "-1e9"),
    ] {
        assert_eq!(Significant(number).to_string(), text);
    }
}

fn close(one: f64, other: f64) -> bool {
    (one / other - 1.0).abs() < 1e-12
}

/// The bounds as the module states them.
#[test]
fn how_far_a_distance_may_be_off_is_what_is_said_up_to_a_shift_and_above() {
    // Nine elements, whose root is three, and eight steps to one.
    let quantisation = Quantisation::new(Element::F32, 9, 3);
    let longest = 43_600.0_f64;
    assert_eq!(quantisation.longest_query(), longest / 8.0);
    for shift in 0..=40_u8 {
        let scale = power(shift.into());
        let least = (longest.powi(2) + 15.0 / 16.0 * scale / 2.0 * HALF).sqrt() - longest;
        let row = |length: f64| match shift {
            0..=5 => scale * 1.5,
            _ => (length * scale * 3.0 + scale / 2.0) / (least - length),
        };
        let query = QuantisedQuery { squared: 100.0, moved: 0.75 };
        let error = quantisation.error(query, shift);
        assert!(close(error, (row(10.0) + 0.75) / 8.0), "{error} with shift {shift}");
        let worst = row(longest) + 1.5;
        match quantisation.worst_error(shift) {
            WorstError::Absolute(error) => assert!(shift <= 5 && close(error, worst / 8.0), "{shift}"),
            WorstError::Relative(part) => {
                assert!(shift > 5 && close(part, worst / (least - longest)), "{shift}")
            }
        }
    }
    let query = QuantisedQuery { squared: 4.0, moved: 0.5 };
    assert_eq!((bytes(9).error(query, 0), bytes(9).worst_error(0)), (0.5, WorstError::Absolute(0.0)));
}

#[test]
fn a_row_that_no_shift_makes_fit_is_refused_with_its_length_and_the_greatest_there_may_be() {
    let said = |quantisation: Quantisation, row: &[f32]| match quantisation.row(row, &mut Vec::new()) {
        Err(QuantiseError::TooLong { length, limit }) => (length, limit),
        other => panic!("{other:?}"),
    };
    let (length, limit) = said(bytes(16_384), &[255.0; 16_384]);
    let query = 255.0 * 128.0;
    assert!(close(length, query) && close(limit, (query * query + HALF).sqrt() - query), "{length}, {limit}");
    // The finest steps there may be, and the longest row of floats.
    let finest = Quantisation::new(Element::F32, 4, Quantisation::MAX_EXPONENT);
    let (length, limit) = said(finest, &[f32::MAX; 4]);
    let (step, query) = (power(-Quantisation::MAX_EXPONENT), 43_600.0_f64);
    let most = ((query * query + HALF * power(255)).sqrt() - query) * step;
    assert!(close(length, 2.0 * f64::from(f32::MAX)) && close(limit, most), "{length}, {limit}");
}
