//! Throughput of whole uploads and downloads, beside the sum of their parts, measured in turn in the same
//! run.
//!
//! `cargo bench --bench throughput -- FILE…` takes files (in memory: /dev/shm); without any, 1 GB of
//! incompressible data is made. `BENCH_DIR` names a folder in memory for the store (/dev/shm).
//! The bound printed is max(slowest serial part, sum of the parts ÷ cores).

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use git_lfs_cdc::config::Settings;
use git_lfs_cdc::engine::{Engine, Transfer};
use git_lfs_cdc::format::chunking::{GEAR_16K, chunk_id};
use git_lfs_cdc::format::frame::{Decoder, Encoder, Frame};
use git_lfs_cdc::format::limits;
use git_lfs_cdc::format::recipe::term_checksum;
use git_lfs_cdc::id::{ContentHash, Oid};
use git_lfs_cdc::progress::Progress;
use git_lfs_cdc::store::{Access, Creation, Store, StoreUrl};
use sha2::{Digest, Sha256};

const ROUNDS: usize = 5;
const GENERATED_BYTES: usize = 1_000_000_000;

fn main() {
    let scratch = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    let folder = tempfile::tempdir_in(scratch).expect("a folder in memory");
    // the engine keeps copies of indexes here
    // SAFETY: no other thread runs yet
    unsafe { std::env::set_var("XDG_CACHE_HOME", folder.path().join("cache")) };
    let mut files: Vec<PathBuf> =
        std::env::args_os().skip(1).filter(|a| a != "--bench").map(PathBuf::from).collect();
    if files.is_empty() {
        let path = folder.path().join("incompressible");
        fs::write(&path, random(GENERATED_BYTES)).expect("room for the generated file");
        files.push(path);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores, median of {ROUNDS} rounds, MB/s of the object's bytes");
    for file in files {
        measure(&file, folder.path(), cores);
    }
}

/// Bytes of xorshift64*, which are incompressible.
fn random(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        out.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    out.truncate(bytes);
    out
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Uses a result, so that its making is not optimised away.
fn keep<T>(value: T) {
    black_box(value);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn cuts(data: &[u8]) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut end = 0;
    while let Some(length) = GEAR_16K.next_cut(&data[end..], true) {
        cuts.push(length);
        end += length;
    }
    cuts
}

/// A part to measure. A serial part can only be done in order.
struct Part<'a> {
    name: &'static str,
    serial: bool,
    work: Box<dyn Fn() + 'a>,
}

fn measure(file: &Path, folder: &Path, cores: usize) {
    let data = fs::read(file).expect("a readable file");
    let oid = Oid(Sha256::digest(&data).into());
    let lengths = cuts(&data);
    let mut encoder = Encoder::new(3).expect("zstd");
    let frames: Vec<Vec<u8>> = data
        .chunks(limits::FRAME_CONTENT_BYTES)
        .map(|c| encoder.encode(c).expect("a frame").stored)
        .collect();
    let size = data.len() as f64 / 1e6;
    let stored = frames.iter().map(Vec::len).sum::<usize>() as f64 / 1e6;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    println!("\n{name}: {size:.1} MB, {} chunks, {stored:.1} MB in frames", lengths.len());
    let from = folder.join("from");
    let to = folder.join("to");
    let up = [
        Part { name: "read (copy)", serial: true, work: Box::new(|| read_through(file)) },
        Part { name: "sha2", serial: true, work: Box::new(|| keep(Sha256::digest(&data))) },
        Part { name: "gearhash (cut)", serial: true, work: Box::new(|| keep(cuts(&data))) },
        Part { name: "blake3 (chunk ids)", serial: false, work: Box::new(|| hash_chunks(&data, &lengths)) },
        Part { name: "zstd (frames)", serial: false, work: Box::new(|| encode_all(&data)) },
        Part {
            name: "blake3 (blocks)",
            serial: true,
            work: Box::new(|| frames.iter().for_each(|f| keep(ContentHash::of(f)))),
        },
        Part { name: "write (copy)", serial: true, work: Box::new(|| write_all(&to, &frames)) },
    ];
    write_all(&from, &frames);
    // several threads write the object, but a file system lets one at a time into a file
    let down = [
        Part { name: "read (copy)", serial: false, work: Box::new(|| read_through(&from)) },
        Part { name: "zstd (unpack)", serial: false, work: Box::new(|| decode_all(&frames)) },
        Part { name: "xxh3", serial: false, work: Box::new(|| keep(term_checksum(&data))) },
        Part {
            name: "write (copy)",
            serial: true,
            work: Box::new(|| write_all(&to, std::slice::from_ref(&data))),
        },
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); up.len() + down.len() + 3];
    for _ in 0..ROUNDS {
        for (place, part) in up.iter().chain(&down).enumerate() {
            times[place].push(seconds(&part.work));
        }
        let (upload, download) = whole(folder, file, &oid, data.len() as u64);
        let wholes = [seconds(|| hash_chunks(&data, &cuts(&data))), upload, download];
        for (place, time) in wholes.into_iter().enumerate() {
            times[up.len() + down.len() + place].push(time);
        }
    }
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    let (parts, wholes) = medians.split_at(up.len() + down.len());
    println!("  {:<22}{:8.3} s {:8.0} MB/s", "cut+hash, one thread", wholes[0], size / wholes[0]);
    report("upload", &up, &parts[..up.len()], wholes[1], size, cores);
    report("download", &down, &parts[up.len()..], wholes[2], size, cores);
}

fn report(name: &str, parts: &[Part<'_>], times: &[f64], whole: f64, size: f64, cores: usize) {
    println!("  {name}");
    for (part, time) in parts.iter().zip(times) {
        println!("    {:<20}{time:8.3} s {:8.0} MB/s", part.name, size / time);
    }
    let serial = parts.iter().zip(times).filter(|(part, _)| part.serial).map(|(_, time)| *time);
    let sum: f64 = times.iter().sum();
    let bound = serial.fold(sum / cores as f64, f64::max);
    println!("    {:<20}{sum:8.3} s {:8.0} MB/s", "sum of the parts", size / sum);
    println!("    {:<20}{bound:8.3} s {:8.0} MB/s", "bound", size / bound);
    println!(
        "    {:<20}{whole:8.3} s {:8.0} MB/s   {:.2} × the bound",
        format!("whole {name}"),
        size / whole,
        whole / bound
    );
}

/// One upload into a new store and one download from it.
fn whole(folder: &Path, file: &Path, oid: &Oid, size: u64) -> (f64, f64) {
    let place = tempfile::tempdir_in(folder).expect("a folder for the store");
    let url = StoreUrl::parse("store").expect("a URL");
    let settings = Settings { writes_manifest: false, ..Settings::new("bench", place.path().join("lfs")) };
    let open = || {
        let (store, _) = Store::create_or_join(&url, place.path(), &Access::default(), Creation::default())
            .expect("a store");
        Engine::new(store, settings.clone())
    };
    let up = open();
    let down = open();
    let progress = std::sync::Arc::new(Progress::default());
    let upload = seconds(|| up.upload(oid, size, file, &progress).expect("an upload"));
    let mut path = PathBuf::new();
    let download = seconds(|| path = down.download(oid, size, &progress).expect("a download"));
    let read = fs::read(path).expect("the download");
    assert_eq!(Oid(Sha256::digest(&read).into()), *oid, "the download differs");
    (upload, download)
}

fn read_through(file: &Path) {
    let mut file = fs::File::open(file).expect("a readable file");
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer).expect("a readable file") > 0 {
        black_box(&buffer);
    }
}

fn write_all(path: &Path, pieces: &[Vec<u8>]) {
    let _ = fs::remove_file(path);
    let mut file = fs::File::create(path).expect("room to write");
    pieces.iter().for_each(|piece| file.write_all(piece).expect("room to write"));
}

fn hash_chunks(data: &[u8], lengths: &[usize]) {
    let mut start = 0;
    for length in lengths {
        black_box(chunk_id(&data[start..start + length]));
        start += length;
    }
}

fn encode_all(data: &[u8]) {
    let mut encoder = Encoder::new(3).expect("zstd");
    for content in data.chunks(limits::FRAME_CONTENT_BYTES) {
        black_box(encoder.encode(content).expect("a frame"));
    }
}

fn decode_all(frames: &[Vec<u8>]) {
    let mut decoder = Decoder::new().expect("zstd");
    for frame in frames {
        let frame = Frame::first(frame).expect("a frame");
        black_box(decoder.decode(&frame).expect("a frame"));
    }
}
