//! The dashboard is embedded as it was built; without it the folder is empty, and the binary says so.

fn main() -> std::io::Result<()> {
    let dist = "../dashboard/dist";
    std::fs::create_dir_all(dist)?;
    println!("cargo:rerun-if-changed={dist}");
    Ok(())
}
