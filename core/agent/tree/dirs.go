package tree

import (
	"container/list"
	"errors"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/sdk"
)

const (
	// maxDirs bounds the descriptors that one cache keeps.
	maxDirs = 256

	// nearby is how many ancestors of a directory are looked up in the cache
	// and put into it. Siblings share them; farther ones would only push
	// each other out, and a path of 65,000 components would cost as many
	// lookups of long keys.
	nearby = 16
)

// dirs keeps descriptors of the directories that were used last, so that
// work on a file costs no walk from the root. Every component is opened
// relative to its parent and no symlink is followed, so nothing below the
// root leads out of it, whoever changes the tree meanwhile. Safe for
// concurrent use.
type dirs struct {
	root  int     // descriptor of the root; the owner of the cache closes it
	where sdk.Raw // path of the root with a slash at its end, for messages

	mu    sync.Mutex
	known map[string]*dir
	order *list.List // of *dir, last used first
}

// dir is an open directory. It is held from acquire to release.
type dir struct {
	fd   int
	path string
	refs int
	elem *list.Element // nil when it is not (or no longer) in the cache
}

func newDirs(root int, where sdk.Raw) *dirs {
	return &dirs{root: root, where: where, known: make(map[string]*dir), order: list.New()}
}

// acquire returns the directory at path, relative to the root ("" is the
// root itself). The caller releases it.
func (c *dirs) acquire(path string) (*dir, error) {
	if path == "" {
		return &dir{fd: c.root, refs: 1}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.known[path]; d != nil {
		d.refs++
		c.order.MoveToFront(d.elem)
		return d, nil
	}
	from, at := c.nearest(path)
	left := strings.Count(path[at:], "/") + 1
	for {
		end := len(path)
		if i := strings.IndexByte(path[at:], '/'); i >= 0 {
			end = at + i
		}
		next, err := c.open(from, path[at:end], path[:end])
		c.drop(from)
		if err != nil {
			return nil, err
		}
		if left <= nearby {
			c.keep(next)
		}
		if end == len(path) {
			return next, nil
		}
		from, at = next, end+1
		left--
	}
}

// nearest returns the nearest ancestor that is known, held, and where in
// path the components begin that are not.
func (c *dirs) nearest(path string) (*dir, int) {
	up := path
	for range nearby {
		i := strings.LastIndexByte(up, '/')
		if i < 0 {
			break
		}
		up = up[:i]
		if d := c.known[up]; d != nil {
			d.refs++
			c.order.MoveToFront(d.elem)
			return d, i + 1
		}
	}
	return &dir{fd: c.root, refs: 1}, 0
}

// open opens one component below from. O_PATH needs no right to read the
// directory.
func (c *dirs) open(from *dir, name, path string) (*dir, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(from.fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, &sdk.Error{
			Kind:    sdk.KindChanged,
			Message: "cannot enter " + (c.where + sdk.Raw(path)).Display() + ": it is no directory any more",
			Hint:    "somebody changes the tree while it is copied",
		}
	}
	if err != nil {
		return nil, diskerr.New("cannot enter", c.where+sdk.Raw(path), err)
	}
	return &dir{fd: fd, path: path, refs: 1}, nil
}

// keep puts d into the cache; the one used least recently leaves it.
func (c *dirs) keep(d *dir) {
	d.elem = c.order.PushFront(d)
	c.known[d.path] = d
	if c.order.Len() > maxDirs {
		c.forget(c.order.Back().Value.(*dir))
	}
}

// forget takes d out of the cache; it is closed when nobody holds it.
func (c *dirs) forget(d *dir) {
	c.order.Remove(d.elem)
	delete(c.known, d.path)
	d.elem = nil
	if d.refs == 0 {
		unix.Close(d.fd)
	}
}

// release gives d back.
func (c *dirs) release(d *dir) {
	c.mu.Lock()
	c.drop(d)
	c.mu.Unlock()
}

func (c *dirs) drop(d *dir) {
	d.refs--
	if d.refs == 0 && d.elem == nil && d.fd != c.root {
		unix.Close(d.fd)
	}
}

// close closes what is kept; nothing is held any more.
func (c *dirs) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.order.Len() > 0 {
		c.forget(c.order.Back().Value.(*dir))
	}
}

// split cuts a path into its directory and its last component.
func split(path string) (parent, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// retry repeats a system call that a signal interrupted, which network file
// systems let happen.
func retry(call func() (int, error)) (int, error) {
	for {
		fd, err := call()
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
