//! Byte grouping: the first bytes of all numbers together, then the second bytes, and so on. The exponents of
//! weights compress well together, but not between mantissas.

/// The widths of numbers, in bytes, by which frames may be grouped.
pub(crate) const WIDTHS: [usize; 3] = [2, 4, 8];

/// Splits `content` into `width` planes, one after the other. Bytes after the last whole number go to the
/// last plane. Returns the end of each plane.
pub(crate) fn group(content: &[u8], width: usize, out: &mut Vec<u8>) -> Vec<usize> {
    out.clear();
    out.reserve(content.len());
    let whole = content.len() / width * width;
    let mut ends = Vec::with_capacity(width);
    for plane in 0..width {
        out.extend(content[..whole].iter().skip(plane).step_by(width));
        if plane == width - 1 {
            out.extend_from_slice(&content[whole..]);
        }
        ends.push(out.len());
    }
    ends
}

/// Returns the length of each of the `width` planes of `length` bytes of content.
pub(crate) fn plane_lengths(length: usize, width: usize) -> impl Iterator<Item = usize> {
    (0..width).map(move |plane| {
        let rest = if plane == width - 1 { length % width } else { 0 };
        length / width + rest
    })
}

/// Undoes [`group`]. `planes` must have as many bytes as `out`.
pub(crate) fn ungroup(planes: &[u8], width: usize, out: &mut [u8]) {
    let count = out.len() / width;
    match width {
        2 => interleave::<2>(planes, count, out),
        4 => interleave::<4>(planes, count, out),
        _ => interleave::<8>(planes, count, out),
    }
    let whole = count * width;
    out[whole..].copy_from_slice(&planes[whole..]);
}

/// Interleaves `W` planes. The width is constant, so the compiler makes vector shuffles of the loop.
fn interleave<const W: usize>(planes: &[u8], count: usize, out: &mut [u8]) {
    let lanes: [&[u8]; W] = std::array::from_fn(|w| &planes[w * count..(w + 1) * count]);
    for (i, number) in out.chunks_exact_mut(W).enumerate() {
        for (byte, lane) in number.iter_mut().zip(lanes) {
            *byte = lane[i];
        }
    }
}

/// Returns a width that makes planes of clearly less entropy than the bytes in their order, if any. It is a
/// cheap guess from byte counts in a sample. The caller must confirm it by compressing.
pub(crate) fn likely_width(sample: &[u8]) -> Option<usize> {
    if sample.len() < 4096 {
        return None;
    }
    let mut counts = [[0u32; 256]; 8];
    for number in sample.chunks_exact(8) {
        for (count, byte) in counts.iter_mut().zip(number) {
            count[usize::from(*byte)] += 1;
        }
    }
    let flat = entropy_bits(counts.iter());
    let grouped = |width: usize| -> f64 {
        let planes = (0..width).map(|p| entropy_bits(counts.iter().skip(p).step_by(width)));
        planes.sum::<f64>() / width as f64
    };
    let best = WIDTHS.into_iter().map(|w| (w, grouped(w)));
    let (width, bits) = best.reduce(|a, b| if b.1 < a.1 - 0.02 { b } else { a })?;
    (bits < flat * 0.97).then_some(width)
}

/// Returns the bits per byte of all counted bytes together, with the correction of Miller and Madow for small
/// samples.
fn entropy_bits<'a>(counts: impl Iterator<Item = &'a [u32; 256]>) -> f64 {
    let mut sum = [0u32; 256];
    for count in counts {
        for (total, n) in sum.iter_mut().zip(count) {
            *total += n;
        }
    }
    let total = f64::from(sum.iter().sum::<u32>());
    let seen = sum.iter().filter(|n| **n > 0);
    let bits: f64 = seen.clone().map(|n| -f64::from(*n) / total * (f64::from(*n) / total).log2()).sum();
    bits + (seen.count() as f64 - 1.0) / (2.0 * total * std::f64::consts::LN_2)
}

/// Returns true if the bytes of `sample` are so evenly spread that compression would save next to nothing.
pub(crate) fn looks_random(sample: &[u8]) -> bool {
    let mut counts = [0u32; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    sample.len() >= 512 && entropy_bits(std::iter::once(&counts)) > 7.9
}
