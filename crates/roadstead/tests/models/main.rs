//! Every behaviour on real sockets, each written once and run on every model.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Makes a test of each scenario on each model.
macro_rules! on_every_model {
    ($($scenario:ident),* $(,)?) => {
        mod threads { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Threads); })* }
        mod epoll { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Epoll); })* }
        mod poll { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Poll); })* }
        mod signal { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Signal); })* }
        mod select { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Select); })* }
        mod spin { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Spin); })* }
    };
}

/// Makes a test of each scenario on each model, with and without worker threads.
macro_rules! with_and_without_workers {
    ($($scenario:ident),* $(,)?) => {
        mod threads { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Threads, 0); })* }
        mod threads_and_workers { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Threads, 2); })* }
        mod epoll { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Epoll, 0); })* }
        mod poll { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Poll, 0); })* }
        mod poll_and_workers { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Poll, 2); })* }
        mod signal { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Signal, 0); })* }
        mod signal_and_workers { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Signal, 2); })* }
        mod select { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Select, 0); })* }
        mod select_and_workers { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Select, 2); })* }
        mod spin { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Spin, 0); })* }
        mod spin_and_workers { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Spin, 2); })* }
        mod epoll_and_workers { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Epoll, 2); })* }
    };
}

mod client;
mod desk;
mod files;
mod life;
mod limits;
mod outgoing;
mod streams;
mod work;
