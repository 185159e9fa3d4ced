// Package audit compares what lies in a directory with a manifest: every file
// is read from the disk again, and what is missing, what differs and what was
// added is told. It changes nothing.
package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/listing"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// Config is what is checked, and how.
type Config struct {
	Dir     sdk.Raw   // holds the manifest's top-level names; absolute
	Listing io.Reader // read once, to its end
	Owner   string    // --owner of the copy; empty: name
	Ignore  []string  // of control.Aspects
	// Scratch is an existing directory, closed to others and without a spool,
	// in which the manifest is kept; whoever made it removes it.
	Scratch string
	Checked *atomic.Int64 // counts the bytes that were read; may be nil
}

// maxTops bounds the top-level names of a manifest.
const maxTops = control.MaxQuestions

// Run makes the check. What is not as it should be is in the result; the error
// is for a check that could not be made. Memory is about 13 bytes an entry and
// what package tree needs.
func Run(ctx context.Context, c Config) (*control.Verified, error) {
	if c.Checked == nil {
		c.Checked = new(atomic.Int64)
	}
	dir, err := os.Open(string(c.Dir))
	if err != nil {
		return nil, cannotRead(c.Dir, err)
	}
	defer dir.Close()
	if st, err := dir.Stat(); err != nil || !st.IsDir() {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: c.Dir.Display() + " is no directory", Hint: "name the directory that holds the copy"}
	}
	expect, err := tree.NewExpectation(c.Owner)
	if err != nil {
		return nil, err
	}
	a := &audit{Config: c, expect: expect}
	if name := cacheOnly(dir); name != "" {
		a.result.Warnings = append(a.result.Warnings, control.Warning{What: "what was read came from memory: " + name + " keeps its files nowhere else", Count: 1, Example: c.Dir})
	}
	if err := a.load(ctx); err != nil {
		return nil, err
	}
	defer a.spool.Close()
	for _, top := range a.tops {
		if err := a.top(ctx, top); err != nil {
			return nil, err
		}
	}
	if err := a.missing(ctx); err != nil {
		return nil, err
	}
	return a.conclude(), nil
}

func cannotRead(p sdk.Raw, err error) error {
	e := &sdk.Error{Kind: sdk.KindInternal, Message: "cannot read " + p.Display() + ": " + err.Error()}
	switch {
	case errors.Is(err, os.ErrNotExist):
		e.Kind, e.Hint = sdk.KindNotFound, "name the directory that holds the copy"
	case errors.Is(err, os.ErrPermission):
		e.Kind, e.Hint = sdk.KindPermission, "check as a user who may read it"
	}
	return e
}

// audit is one check. The walk over the disk is one goroutine; what guards
// says so is shared with those that read files.
type audit struct {
	Config
	expect *tree.Expectation
	spool  *manifest.Spool
	index  *index
	tops   []sdk.Raw

	seen bits // manifest entries that were found
	met  bits // files (by their first entry) whose inode was met
	of   []uint32

	mu       sync.Mutex // guards what follows
	result   control.Verified
	findings []finding
}

// finding is a Finding with its place in the manifest.
type finding struct {
	control.Finding
	n uint64
}

// load reads the listing into a spool and an index.
func (a *audit) load(ctx context.Context) error {
	var header listing.Header
	spool, err := manifest.Create(a.Scratch, manifest.Header{DigestRule: manifest.RuleBLAKE3})
	if err != nil {
		return err
	}
	a.spool, a.index = spool, newIndex()
	var record []byte
	header, err = listing.Read(a.Listing, func(e manifest.Entry, d manifest.Digest) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if record, err = manifest.AppendEntry(record[:0], &e); err != nil {
			return err
		}
		n, _, err := spool.Append(record)
		if err != nil {
			return err
		}
		a.index.add(e.Path, n)
		if strings.IndexByte(string(e.Path), '/') < 0 {
			if a.tops = append(a.tops, e.Path); len(a.tops) > maxTops {
				return errors.New("too many top-level names")
			}
		}
		return a.count(&e, &d, n)
	})
	if err != nil {
		return errors.Join(wrongManifest(err), spool.Close())
	}
	a.result.Entries = int64(header.Entries)
	a.index.sort()
	a.seen, a.met = newBits(header.Entries), newBits(header.Entries)
	return nil
}

func wrongManifest(err error) error {
	var typed *sdk.Error
	if errors.As(err, &typed) || errors.Is(err, context.Canceled) {
		return err
	}
	return &sdk.Error{Kind: sdk.KindConfig, Message: "the manifest cannot be used: " + err.Error(), Hint: "check against the file as transferpy has written it"}
}

// count counts an entry of the manifest and keeps its digest.
func (a *audit) count(e *manifest.Entry, d *manifest.Digest, n uint64) error {
	if e.Type != sdk.FileRegular {
		return nil
	}
	a.result.Files++
	if e.HardLink != 0 {
		return nil
	}
	if d.State != manifest.DigestOK {
		a.result.Unproven++
		return nil
	}
	a.result.Bytes += e.Size
	return a.spool.SetDigest(n, *d)
}

// top checks one top-level name and all below it. One that is not there is
// missing, with all that the manifest has below it.
func (a *audit) top(ctx context.Context, name sdk.Raw) error {
	full := sdk.Raw(path.Join(string(a.Dir), string(name)))
	src, err := tree.OpenSource(full)
	switch {
	case errors.Is(err, sdk.ErrNotFound):
		return nil
	case errors.Is(err, sdk.ErrUnsupported): // neither a file nor a directory any more
		n, _, found, err := a.find(name)
		if found {
			a.seen.set(n)
			a.report(control.FindingDiffers, name, n, "neither a file nor a directory")
		}
		return err
	case err != nil:
		return err
	}
	defer src.Close()
	group, ctx := errgroup.WithContext(ctx)
	r := newReader(a, src)
	r.start(ctx, group)
	group.Go(func() error {
		defer r.done()
		// Names of links count from the walk's own beginning.
		a.of = a.of[:0]
		return src.Walk(ctx, func(e manifest.Entry, _ manifest.Ident) error { return a.visit(ctx, &e, r) })
	})
	if err := group.Wait(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result.Warnings = append(a.result.Warnings, src.Warnings()...)
	return nil
}

// nowhere is the place of what the manifest does not have.
const nowhere = 1<<32 - 1

// find looks an entry up.
func (a *audit) find(p sdk.Raw) (n uint64, e manifest.Entry, found bool, err error) {
	for _, n := range a.index.lookup(p) {
		if e, err = a.spool.Entry(n); err != nil || e.Path == p {
			return n, e, err == nil, err
		}
	}
	return 0, e, false, nil
}

// missing tells of entries that were not met.
func (a *audit) missing(ctx context.Context) error {
	return a.spool.Each(ctx, func(n uint64, e manifest.Entry, _ manifest.Digest) error {
		if !a.seen.has(n) && e.Type != sdk.FileSocket {
			a.report(control.FindingMissing, e.Path, n, string(e.Type))
		}
		return nil
	})
}

// report counts a finding, and keeps it if there is room.
func (a *audit) report(kind control.FindingKind, p sdk.Raw, n uint64, what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	count := map[control.FindingKind]*int64{
		control.FindingMissing: &a.result.Missing, control.FindingDiffers: &a.result.Differing,
		control.FindingAttributes: &a.result.Attributes, control.FindingAdditional: &a.result.Additional,
	}[kind]
	*count++
	if *count <= control.MaxFindings {
		a.findings = append(a.findings, finding{control.Finding{Kind: kind, Path: control.CutPath(p), What: what}, n})
	}
}

// maxNames bounds the findings' texts together, in bytes, so that the answer
// fits through any executor.
const maxNames = 48 << 10

// conclude puts the findings in order, what weighs most first.
func (a *audit) conclude() *control.Verified {
	weight := map[control.FindingKind]int{control.FindingDiffers: 0, control.FindingMissing: 1, control.FindingAttributes: 2, control.FindingAdditional: 3}
	slices.SortStableFunc(a.findings, func(x, y finding) int {
		return cmp.Or(weight[x.Kind]-weight[y.Kind], cmp.Compare(x.n, y.n), bytes.Compare([]byte(x.Path), []byte(y.Path)))
	})
	size := 0
	for _, f := range a.findings {
		if size += len(f.Path) + len(f.What); size > maxNames || len(a.result.Findings) == control.MaxFindings {
			break
		}
		a.result.Findings = append(a.result.Findings, f.Finding)
	}
	a.result.Checked = a.Checked.Load()
	return &a.result
}
