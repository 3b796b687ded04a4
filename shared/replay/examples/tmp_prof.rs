use std::time::Instant;
fn main() { let a: Vec<String> = std::env::args().skip(1).collect(); let w: usize = a[1].parse().unwrap();
 let s = replay::input::Sources::expand(&a[..1]).unwrap();
 for _ in 0..3 { let t = Instant::now();
 let o = replay::driver::Options { policy: reputation::Policy::default(), real_now: i64::MAX/2, since: None, until: None, stop_at: None, workers: w };
 let r = replay::driver::replay(&o, &s, &mut |_| {}, &Default::default()).unwrap();
 println!("{:.3} {} {}", t.elapsed().as_secs_f64(), r.tallies.events, r.reputation.transitions.len()); } }
