//! Files that are compiled in: a new one has to be seen without a change of the code.

fn main() {
    for folder in ["docs-corpus", "migrations", "prompts"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
