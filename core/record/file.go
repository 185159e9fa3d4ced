package record

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/core/agent/lines"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/printable"
	"github.com/transferpy/transferpy/sdk"
)

// Bounds of the file.
const (
	maxLine = 4 << 20 // bytes; 4095 targets that failed take half of it
	// maxRead is how much of the file's end is read, in bytes.
	maxRead = 256 << 20
	// lockFor is how long another appender may hold the lock: it writes one
	// line.
	lockFor = 10 * time.Second
)

// Append adds a line to the file in dir, which is made where it is missing,
// and returns when it is on disk. Version, user and control host are filled
// in. A line that an earlier appender could not finish is ended first, so that
// this one stands alone; one that cannot be written as a whole is taken back.
func Append(dir string, l Line) error {
	l.V, l.User = Version, CurrentUser()
	l.Host, _ = os.Hostname() // an empty one says that it was not told
	text, err := printable.JSON(l.bounded())
	if err != nil {
		return fmt.Errorf("encode the line for %s: %w", Name, err)
	}
	if len(text) > maxLine {
		return fmt.Errorf("the line for %s would have %d bytes; %d are allowed", Name, len(text), maxLine)
	}
	if err := journal.MakeDir(dir); err != nil {
		return err
	}
	file, err := openLocked(filepath.Join(dir, Name))
	if err != nil {
		return err
	}
	defer file.Close() // and with it the lock
	return appendTo(file, text)
}

// openLocked opens the file for appending and takes its lock. A file that was
// renamed away before the lock came is left to who has renamed it.
func openLocked(path string) (*os.File, error) {
	for deadline := time.Now().Add(lockFor); ; time.Sleep(5 * time.Millisecond) {
		file, err := open(path, os.O_RDWR|os.O_APPEND|os.O_CREATE)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil && bears(file, path) {
			return file, nil
		}
		file.Close()
		switch {
		case err != nil && !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, fileError(path, "lock", err)
		case time.Now().After(deadline):
			return nil, &sdk.Error{Kind: sdk.KindTimeout, Message: fmt.Sprintf("%s was locked by somebody else for %s", path, lockFor),
				Hint: "see who has it open: fuser " + path}
		}
	}
}

// bears reports whether the open file still has the name.
func bears(file *os.File, path string) bool {
	a, err1 := file.Stat()
	b, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// open opens a regular file that belongs to this user and that nobody else may
// write, following no link.
func open(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fileError(path, "open", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, fileError(path, "look at", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) != os.Getuid() || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		file.Close()
		return nil, &sdk.Error{Kind: sdk.KindPermission, Message: fmt.Sprintf("%s is not a file of this user alone", path),
			Hint: "it must belong to who runs transferpy and be closed to others (chmod 0600)"}
	}
	return file, nil
}

// appendTo writes the line with the lock held.
func appendTo(file *os.File, line []byte) error {
	info, err := file.Stat()
	if err != nil {
		return fileError(file.Name(), "look at", err)
	}
	if torn, err := isTorn(file, info.Size()); err != nil {
		return fileError(file.Name(), "read", err)
	} else if torn {
		line = append([]byte("\n"), line...)
	}
	if _, err := file.Write(line); err != nil {
		file.Truncate(info.Size()) // half a line of a full disk
		return fileError(file.Name(), "write", err)
	}
	if err := file.Sync(); err != nil {
		return fileError(file.Name(), "write", err)
	}
	return nil
}

// isTorn reports whether the last line has no end.
func isTorn(file io.ReaderAt, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	last := make([]byte, 1)
	_, err := file.ReadAt(last, size-1)
	return last[0] != '\n', err
}

// Skipped is what Read could not take.
type Skipped struct {
	Lines int   // that are torn, damaged, or of another version
	Bytes int64 // of the file's beginning, where it is longer than is read
}

// Read hands the lines of the file in dir to each, oldest first; each gets
// nothing that it may not keep. What cannot be understood is passed over and
// counted. A file that is not there has no lines. An error of each ends the
// reading and is returned.
func Read(dir string, each func(Line) error) (Skipped, error) {
	path := filepath.Join(dir, Name)
	file, err := open(path, os.O_RDONLY)
	if errors.Is(err, sdk.ErrNotFound) {
		return Skipped{}, nil
	}
	if err != nil {
		return Skipped{}, err
	}
	defer file.Close()
	var skipped Skipped
	if info, err := file.Stat(); err == nil && info.Size() > maxRead {
		skipped.Bytes = info.Size() - maxRead
	}
	// One byte before it: so a line that begins just there is a whole one.
	from := max(skipped.Bytes-1, 0)
	in := bufio.NewReaderSize(io.NewSectionReader(file, from, maxRead+1), 64<<10)
	if skipped.Bytes > 0 {
		if _, err := lines.Next(in, maxLine); err != nil && !errors.Is(err, lines.ErrLong) {
			return skipped, fileError(path, "read", err)
		}
	}
	n, err := read(in, each)
	skipped.Lines = n
	if _, ours := err.(readError); ours {
		err = fileError(path, "read", errors.Unwrap(err))
	}
	return skipped, err
}

// readError is an error of the disk, and not of who takes the lines.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// read hands out what can be understood and counts the rest.
func read(in *bufio.Reader, each func(Line) error) (skipped int, err error) {
	for {
		text, err := lines.Next(in, maxLine)
		if len(text) > 0 {
			if l, ok := decode(text); !ok {
				skipped++
			} else if err := each(l); err != nil {
				return skipped, err
			}
		}
		switch {
		case errors.Is(err, lines.ErrLong):
			skipped++
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return skipped, nil
		case err != nil:
			return skipped, readError{err}
		}
	}
}

// decode reads one line; false where it is none of ours. Fields that it does
// not know are a later program's.
func decode(text []byte) (Line, bool) {
	var l Line
	if err := json.Unmarshal(text, &l); err != nil || l.V != Version || !journal.ValidID(l.Transfer) {
		return Line{}, false
	}
	return l, true
}

// fileError says what could not be done with the file, and what to do.
func fileError(path, what string, err error) error {
	e := &sdk.Error{Kind: sdk.KindInternal}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Kind = sdk.KindNotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ELOOP):
		e.Kind, e.Hint = sdk.KindPermission, "it must be a file of who runs transferpy, and no link"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Kind, e.Hint = sdk.KindNoSpace, "free some space on this host"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	e.Message = fmt.Sprintf("cannot %s %s: %v", what, path, err)
	return e
}
