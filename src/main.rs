//! git-lfs-cdc: argv in, exit code out.

fn main() -> std::process::ExitCode {
    git_lfs_cdc::cli::main()
}
