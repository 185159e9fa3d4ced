package plugintest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/transferpy/transferpy/sdk"
)

// fileTypes are the types of paths by mode.
var fileTypes = map[uint32]sdk.FileType{
	syscall.S_IFREG: sdk.FileRegular, syscall.S_IFDIR: sdk.FileDirectory, syscall.S_IFLNK: sdk.FileSymlink,
	syscall.S_IFIFO: sdk.FileFifo, syscall.S_IFSOCK: sdk.FileSocket, syscall.S_IFCHR: sdk.FileCharDev,
	syscall.S_IFBLK: sdk.FileBlockDev,
}

// facts answers one question about a path on this machine.
func facts(q sdk.PathQuestion) sdk.PathFacts {
	path := string(q.Path)
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return sdk.PathFacts{}
		}
		return sdk.PathFacts{Err: &sdk.Error{Kind: sdk.KindPermission, Message: path + ": " + err.Error()}}
	}
	const writable, readable = 2, 4
	f := sdk.PathFacts{Exists: true, Type: fileTypes[st.Mode&syscall.S_IFMT], Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
		Writable: syscall.Access(path, writable) == nil, Readable: syscall.Access(path, readable) == nil, FileSystem: "test"}
	var sys syscall.Statfs_t
	if syscall.Statfs(path, &sys) == nil {
		f.FreeBytes, f.FreeInodes = int64(sys.Bavail)*sys.Bsize, int64(sys.Ffree)
	}
	switch f.Type {
	case sdk.FileRegular:
		f.Size = st.Size
	case sdk.FileDirectory:
		names, err := os.ReadDir(path)
		f.Empty = err == nil && len(names) == 0
	}
	if q.Count {
		count(path, &f)
	}
	return f
}

// count fills in entries and bytes below path; hard links count once.
func count(path string, f *sdk.PathFacts) {
	seen := map[[2]uint64]bool{}
	filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			f.Partial = true
			return nil
		}
		f.Entries++
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			id := [2]uint64{st.Dev, st.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		f.Bytes += info.Size()
		return nil
	})
}
