//! Memory, a thread, words, and a panic that unwinds through both: prints one line and ends with 0.

fn main() {
    let there = std::thread::spawn(|| std::panic::catch_unwind(|| panic!("as it should")).is_err());
    assert!(matches!(there.join(), Ok(true)), "no panic was caught");
    println!("a thread caught its panic on {}", std::env::consts::ARCH);
}
