//! Helpers of the tests: other people's servers, started for real.

pub mod rabbit;
