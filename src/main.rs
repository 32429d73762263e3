//! The program `git-lfs-cdc`: it takes the arguments and returns an exit code.

fn main() -> std::process::ExitCode {
    git_lfs_cdc::cli::main()
}
