//! The frame codec: encoding and parsing, without fields and with a few, small bodies and large.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use roadstead_proto::{Frame, frame::Fields, frame::Limits};

fn shapes() -> [(&'static str, Fields, usize); 4] {
    let few = Fields::new().number(1, 42).number(2, 7).text(3, "berth");
    [
        ("bare/64", Fields::new(), 64),
        ("fields/64", few.clone(), 64),
        ("bare/16384", Fields::new(), 16384),
        ("fields/16384", few, 16384),
    ]
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, fields, len) in shapes() {
        let (body, mut wire) = (vec![7; len], Vec::new());
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                wire.clear();
                Frame::encode(&mut wire, 1, black_box(&fields), black_box(&body));
            });
        });
    }
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, fields, len) in shapes() {
        let mut wire = Vec::new();
        Frame::encode(&mut wire, 1, &fields, &vec![7; len]);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| black_box(Frame::parse(black_box(&wire), &Limits::default()).is_ok()));
        });
    }
}

criterion_group!(frame, encode, parse);
criterion_main!(frame);
