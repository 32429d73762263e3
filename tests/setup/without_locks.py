"""without_locks.py FOLDER MOUNT: a file system that shows FOLDER at MOUNT, and has no locks, as NFS without its lock service.

Needs mfusepy, and libfuse3. Ends when it is unmounted.
"""
import errno
import os
import sys

import mfusepy


class WithoutLocks(mfusepy.Operations):
    use_ns = True

    def __init__(self, folder):
        self.folder = folder

    def at(self, path):
        return self.folder + path

    def getattr(self, path, fh=None):
        found = os.lstat(self.at(path)) if fh is None else os.fstat(fh)
        names = 'st_gid st_uid st_mode st_nlink st_size st_blocks st_ino'
        attributes = {name: getattr(found, name) for name in names.split()}
        for name in ['st_atime', 'st_ctime', 'st_mtime']:
            attributes[name] = getattr(found, name + '_ns')
        return attributes

    def readdir(self, path, fh):
        return ['.', '..', *os.listdir(self.at(path))]

    def flock(self, path, fh, operation):
        raise OSError(errno.ENOLCK, 'no locks')

    def create(self, path, mode, fi=None):
        return os.open(self.at(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def open(self, path, flags):
        return os.open(self.at(path), flags)

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        os.truncate(self.at(path), length)

    def rename(self, old, new, flags=0):
        os.rename(self.at(old), self.at(new))

    def link(self, target, source):
        os.link(self.at(source), self.at(target))

    def symlink(self, target, source):
        os.symlink(source, self.at(target))

    def readlink(self, path):
        return os.readlink(self.at(path))

    def mkdir(self, path, mode):
        os.mkdir(self.at(path), mode)

    def rmdir(self, path):
        os.rmdir(self.at(path))

    def unlink(self, path):
        os.unlink(self.at(path))

    def chmod(self, path, mode):
        os.chmod(self.at(path), mode)

    def chown(self, path, uid, gid):
        os.chown(self.at(path), uid, gid, follow_symlinks=False)

    def utimens(self, path, times=None):
        os.utime(self.at(path), ns=times)

    def fsync(self, path, datasync, fh):
        os.fsync(fh)

    def release(self, path, fh):
        os.close(fh)

    def statfs(self, path):
        found = os.statvfs(self.at(path))
        names = 'f_bavail f_bfree f_blocks f_bsize f_favail f_ffree f_files f_frsize f_namemax'
        return {name: getattr(found, name) for name in names.split()}


if __name__ == '__main__':
    folder, mount = sys.argv[1:]
    mfusepy.FUSE(WithoutLocks(os.path.realpath(folder)), mount, foreground=True)
