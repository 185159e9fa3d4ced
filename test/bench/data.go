package main

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// kind is what sort of data is copied.
type kind string

const (
	innodb kind = "innodb" // a data directory of a real server
	small  kind = "small"  // many files of 0 to 16 kB
	large  kind = "large"  // one file that does not compress
	tiny   kind = "tiny"   // very many files of 0 to 64 bytes
	sparse kind = "sparse" // one file that is nearly all hole
)

// dataset is a kind and how much of it: files for small and tiny, else bytes.
type dataset struct {
	kind   kind
	amount int64
}

// scaled is the data set at another size.
func (d dataset) scaled(factor float64) dataset {
	return dataset{d.kind, max(1, int64(float64(d.amount)*factor))}
}

// size is what a data set holds.
type size struct {
	files int64
	bytes int64 // as ls shows them, holes too
}

// make makes the data at dir, which must not exist. cache is where an InnoDB
// directory is kept.
func (d dataset) make(ctx context.Context, dir, cache string) error {
	switch d.kind {
	case innodb:
		return d.copyInnoDB(ctx, dir, cache)
	case small:
		return makeFiles(ctx, dir, int(d.amount), 16000)
	case tiny:
		return makeFiles(ctx, dir, int(d.amount), 64)
	case large:
		return makeLarge(ctx, dir, d.amount)
	case sparse:
		return makeSparse(dir, d.amount)
	}
	return fmt.Errorf("unknown data %q", d.kind)
}

// kept is where the InnoDB directory of this size is kept.
func (d dataset) kept(cache string) string {
	return filepath.Join(cache, "innodb-"+strconv.FormatInt(d.amount>>20, 10)+"MiB")
}

// copyInnoDB copies the kept InnoDB directory, which it builds when there is
// none of that size.
func (d dataset) copyInnoDB(ctx context.Context, dir, cache string) error {
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return err
	}
	kept := d.kept(cache)
	if _, err := os.Stat(kept); os.IsNotExist(err) {
		if err := buildInnoDB(ctx, kept, d.amount); err != nil {
			return fmt.Errorf("build an InnoDB directory: %w", err)
		}
	} else if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", kept, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the InnoDB directory: %w: %s", err, out)
	}
	return nil
}

// makeFiles makes n files of 0 to most bytes, 1000 in a directory, of
// random bytes written as hex: they compress to half, as mixed files do, and
// no file is like another.
func makeFiles(ctx context.Context, dir string, n, most int) error {
	random := rand.New(rand.NewChaCha8([32]byte{1}))
	raw := rand.NewChaCha8([32]byte{2})
	data := make([]byte, most)
	for i := range n {
		if i%1000 == 0 {
			if err := os.MkdirAll(filepath.Join(dir, strconv.Itoa(i/1000)), 0o755); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		content := data[:random.IntN(most+1)]
		raw.Read(content) // never fails
		for k := range content {
			content[k] = "0123456789abcdef"[content[k]&15]
		}
		path := filepath.Join(dir, strconv.Itoa(i/1000), strconv.Itoa(i))
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeLarge makes a directory with one file of random bytes.
func makeLarge(ctx context.Context, dir string, bytes int64) error {
	f, err := makeFile(dir, "large")
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.NewChaCha8([32]byte{3})
	block := make([]byte, 1<<20)
	for left := bytes; left > 0; left -= int64(len(block)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		random.Read(block) // never fails
		if _, err := f.Write(block[:min(left, int64(len(block)))]); err != nil {
			return err
		}
	}
	return f.Close()
}

// makeSparse makes a directory with one file of a single hole between two
// pieces of data.
func makeSparse(dir string, bytes int64) error {
	f, err := makeFile(dir, "sparse")
	if err != nil {
		return err
	}
	defer f.Close()
	piece := []byte("data before and after a hole")
	for _, at := range []int64{0, max(0, bytes-int64(len(piece)))} {
		if _, err := f.WriteAt(piece, at); err != nil {
			return err
		}
	}
	return f.Close()
}

func makeFile(dir, name string) (*os.File, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	return os.Create(filepath.Join(dir, name))
}

// measure counts what lies below dir.
func measure(dir string) (size, error) {
	var s size
	err := eachFile(dir, func(_ string, info fs.FileInfo) error {
		s.files++
		s.bytes += info.Size()
		return nil
	})
	return s, err
}

// evict writes what lies below dir to the disk and drops it from the page
// cache, so that whoever reads it next asks the disk. On tmpfs it does
// nothing that shows.
func evict(dir string) error {
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(root.Fd()))
	root.Close()
	if err != nil {
		return fmt.Errorf("syncfs %s: %w", dir, err)
	}
	return eachFile(dir, func(path string, _ fs.FileInfo) error {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// eachFile calls do with each regular file below dir.
func eachFile(dir string, do func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return do(path, info)
	})
}
