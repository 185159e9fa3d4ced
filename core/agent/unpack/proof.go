package unpack

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// proof watches for the file that proves an archive complete.
type proof struct {
	names []string
	line  *regexp.Regexp

	head  []byte // of the file, maxProof at most
	found bool
}

func newProof(o Options) *proof { return &proof{names: o.Proof, line: o.ProofLine} }

// asked reports whether there is to be a proof.
func (p *proof) asked() bool { return len(p.names) > 0 }

// wants reports whether a member is the proof.
func (p *proof) wants(path string) bool { return slices.Contains(p.names, path) }

func (p *proof) restart() { p.head, p.found = nil, false }

func (p *proof) see(b []byte) { p.head = append(p.head, b[:min(len(b), maxProof-len(p.head))]...) }

func (p *proof) end() { p.found = true }

// check says what is wanting.
func (p *proof) check() error {
	switch {
	case !p.asked():
		return nil
	case !p.found:
		return damaged("the archive has no %s in it", strings.Join(p.names, " and no "))
	case p.line == nil:
		return nil
	}
	for line := range bytes.Lines(p.head) {
		if p.line.Match(bytes.TrimRight(line, "\r\n")) {
			return nil
		}
	}
	return damaged("%s in the archive has no line that matches %q: it was not written to its end", strings.Join(p.names, " or "), p.line)
}
