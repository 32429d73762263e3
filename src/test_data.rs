//! Data for unit tests.

/// Returns incompressible bytes, different for each seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut out = vec![0; bytes];
    reader.fill(&mut out);
    out
}
