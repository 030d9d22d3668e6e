//! Every behaviour on real sockets, each written once and run on every model, plain and through TLS.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Makes a test of each scenario on one model, plain and through TLS.
macro_rules! on_model {
    ($name:ident, $model:ident, $workers:literal: $($scenario:ident)*) => {
        mod $name {
            mod plain { in_setting!($model, $workers, Fcfs, Edge, false: $($scenario)*); }
            mod tls { in_setting!($model, $workers, Fcfs, Edge, true: $($scenario)*); }
        }
    };
}

/// Makes a test of each scenario in one setting.
macro_rules! in_setting {
    ($model:ident, $workers:literal, $queue:ident, $trigger:ident, $tls:literal: $($scenario:ident)*) => {
        const SETTING: crate::setting::Setting = crate::setting::Setting {
            model: roadstead::Model::$model,
            workers: $workers,
            queue: roadstead::Queue::$queue,
            trigger: roadstead::server::Trigger::$trigger,
            tls: $tls,
        };
        $(#[test] fn $scenario() { super::super::$scenario(SETTING); })*
    };
}

/// Makes a test of each scenario on each model; of those that need several clients at once on each but `iterative`.
macro_rules! on_every_model {
    ($($scenario:ident),* $(; several: $($several:ident),*)? $(,)?) => {
        on_model!(iterative, Iterative, 0: $($scenario)*);
        on_model!(pool, Pool, 0: $($scenario)* $($($several)*)?);
        on_model!(threads, Threads, 0: $($scenario)* $($($several)*)?);
        on_model!(epoll, Epoll, 0: $($scenario)* $($($several)*)?);
        mod epoll_of_levels {
            mod plain { in_setting!(Epoll, 0, Fcfs, Level, false: $($scenario)* $($($several)*)?); }
        }
        on_model!(poll, Poll, 0: $($scenario)* $($($several)*)?);
        on_model!(signal, Signal, 0: $($scenario)* $($($several)*)?);
        on_model!(select, Select, 0: $($scenario)* $($($several)*)?);
        on_model!(spin, Spin, 0: $($scenario)* $($($several)*)?);
        on_model!(emulated, Emulated, 0: $($scenario)* $($($several)*)?);
        on_model!(aio, Aio, 0: $($scenario)* $($($several)*)?);
    };
}

/// Makes a test of each scenario on each model, with and without worker threads.
macro_rules! with_and_without_workers {
    ($($scenario:ident),* $(; several: $($several:ident),*)? $(,)?) => {
        on_every_model!($($scenario),* $(; several: $($several),*)?);
        on_model!(iterative_and_workers, Iterative, 2: $($scenario)*);
        on_model!(threads_and_workers, Threads, 2: $($scenario)* $($($several)*)?);
        on_model!(epoll_and_workers, Epoll, 2: $($scenario)* $($($several)*)?);
        on_model!(poll_and_workers, Poll, 2: $($scenario)* $($($several)*)?);
        on_model!(signal_and_workers, Signal, 2: $($scenario)* $($($several)*)?);
        on_model!(select_and_workers, Select, 2: $($scenario)* $($($several)*)?);
        on_model!(spin_and_workers, Spin, 2: $($scenario)* $($($several)*)?);
        on_model!(emulated_and_workers, Emulated, 2: $($scenario)* $($($several)*)?);
    };
}

/// Makes a test of each scenario with each queue discipline, inline and on worker threads; with those that slice also
/// on other cores.
macro_rules! with_each_queue {
    ($($scenario:ident),* $(,)?) => {
        with_queue!(fcfs, Epoll, Fcfs: $($scenario)*);
        with_queue!(sjf, Epoll, Sjf: $($scenario)*);
        with_queue!(rr, Epoll, Rr: $($scenario)*);
        with_queue!(mlfq, Epoll, Mlfq: $($scenario)*);
        with_queue!(threads_rr, Threads, Rr: $($scenario)*);
        with_queue!(threads_mlfq, Threads, Mlfq: $($scenario)*);
        with_queue!(emulated_mlfq, Emulated, Mlfq: $($scenario)*);
    };
}

/// The same with one of them.
macro_rules! with_queue {
    ($name:ident, $model:ident, $queue:ident: $($scenario:ident)*) => {
        mod $name {
            mod inline { in_setting!($model, 0, $queue, Edge, false: $($scenario)*); }
            mod workers { in_setting!($model, 2, $queue, Edge, false: $($scenario)*); }
        }
    };
}

mod client;
mod desk;
mod differential;
mod drain;
mod files;
mod life;
mod limits;
mod outgoing;
mod queues;
mod setting;
mod streams;
mod wire;
mod work;
