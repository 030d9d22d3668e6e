//! Entry points for fuzzing: any bytes are accepted or refused, nothing panics.

use crate::{
    agreed::{
        manifest::{Digest, Element, Manifest, SharingId},
        reshare,
        scales::Scales,
        wire::{self, Hello, Kind, Refusal, Welcome},
    },
    arithmetic::{
        dpf::{Domain, Evaluator, Key, Role},
        field::P,
        party::Party,
        prg::Expander,
        quantise::WorstError,
        selector,
    },
};

/// Selection keys: the first two bytes choose the number of rows, the rest is the key.
pub fn keys(data: &[u8]) {
    let Some((rows, key)) = data.split_first_chunk() else { return };
    let domain = Domain::new(usize::from(u16::from_le_bytes(*rows)) + 1);
    if let Ok(key) = Key::parse(key, domain) {
        let mut bits = Vec::new();
        Evaluator::default().expand(&expander(), domain, Role::Second, &key, &mut bits);
        assert_eq!(bits.len(), domain.leaves() * 16);
    }
}

/// Selectors: the first two bytes choose the number of rows, the rest is a key.
pub fn selectors(data: &[u8]) {
    let Some((rows, key)) = data.split_first_chunk() else { return };
    let domain = selector::Domain::new(usize::from(u16::from_le_bytes(*rows)) + 1);
    if let Ok(key) = selector::Key::parse(key, domain) {
        let (expander, keys, mut walks) = (expander(), [key.clone(), key], selector::Walks::default());
        let mut expansion = selector::Expansion::new(&expander, domain, Party::ALL[1], &keys, &mut walks);
        let (mut run, mut lines) = (Vec::new(), 0);
        loop {
            expansion.next_run(&mut run);
            if run.is_empty() {
                break;
            }
            lines += run.len();
            assert!(run.iter().flat_map(|line| line.0).all(|element| element < P));
        }
        assert_eq!(lines, domain.lines());
    }
}

fn expander() -> Expander {
    Expander::new(&Digest([0; 32]), &[[0; 16]; 3])
}

/// Messages of servers 1, 2, 3 for a share of a row of two elements: three equal parts of what is given.
pub fn parts(data: &[u8]) {
    let Ok(manifest) = Manifest::new(SharingId([0; 16]), 1, 2, Element::U8, false) else { return };
    let (first, rest) = data.split_at(data.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    if let Ok(body) = reshare::add_up(&manifest, 7, [first, second, third]) {
        assert_eq!(body.len(), wire::fetched_share_len(&manifest));
        assert!(wire::parse_elements(&body[wire::COUNTER..]).is_ok());
    }
}

/// Manifests: one that is read is written and read again the same.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        let again = manifest.to_json().ok().and_then(|json| Manifest::parse(&json).ok());
        assert_eq!(again.as_ref(), Some(&manifest));
        assert_eq!(again.map(|again| again.digest()), Some(manifest.digest()));
    }
}

/// Scales of as many rows as fit, of floats or of bytes: whatever they are, errors of distances are numbers.
pub fn scales(data: &[u8]) {
    let rows = data.len().saturating_sub(20);
    for element in [Element::U8, Element::F32] {
        let Ok(manifest) = Manifest::new(SharingId([0; 16]), rows, 2, element, true) else { return };
        let Some(scales) = Scales::parse(data.to_vec(), &manifest) else { continue };
        assert!(!scales.precision().to_string().contains("NaN"));
        for &shift in scales.shifts() {
            let (WorstError::Absolute(error) | WorstError::Relative(error)) =
                scales.quantisation().worst_error(shift);
            assert!(error.is_finite() && error >= 0.0);
        }
    }
}

/// Bodies: the first byte is the kind.
pub fn messages(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else { return };
    let Ok(kind) = Kind::try_from(kind) else { return };
    match kind {
        Kind::Hello => assert!(
            Hello::parse(body).is_ok_and(|hello| hello.encode() == body) || Hello::parse(body).is_err()
        ),
        Kind::Welcome => {
            assert!(
                Welcome::parse(body).is_ok_and(|welcome| welcome.encode() == body)
                    || Welcome::parse(body).is_err()
            );
        }
        Kind::Nonces => {
            assert!(wire::parse_nonces(body).map_or(true, |nonces| wire::encode_nonces(&nonces) == body))
        }
        Kind::Refusal => {
            assert!(Refusal::parse(body).map_or(true, |refusal| refusal.encode() == body));
        }
        Kind::Fetch
        | Kind::Search
        | Kind::Fetched
        | Kind::Searched
        | Kind::FetchShare
        | Kind::FetchedShare => {
            let elements = wire::counter("message", body).and_then(|(_, rest)| wire::parse_elements(rest));
            assert!(elements.unwrap_or_default().iter().all(|&element| element < P));
        }
    }
}
