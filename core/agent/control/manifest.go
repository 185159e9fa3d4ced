package control

import "github.com/transferpy/transferpy/sdk"

// Bounds of the messages about manifests.
const (
	// MaxPiece bounds a piece of a manifest, in bytes.
	MaxPiece = 4 << 20
	// MaxFindings bounds what one check names; it counts all.
	MaxFindings = 100

	maxParts   = 16 << 10
	maxFinding = 4 << 10 // bytes of a finding's path; longer ones are cut
)

// Manifest asks the agent that has read the source for a piece of its
// manifest: manifest.Spool.Export, compressed by zstd. It may be asked once
// the source is verified, as often as wanted, until the agent ends.
type Manifest struct {
	Agent  string `json:"agent"` // others answer nothing
	Offset int64  `json:"offset"`
	Limit  int    `json:"limit"` // most bytes of the piece
}

// Piece is a piece of a compressed manifest.
type Piece struct {
	Size int64  `json:"size"` // bytes of all of it
	Data []byte `json:"data"` // from the offset asked for; empty at the end
}

// Verify checks what lies in a directory against a manifest. It changes
// nothing. Like a do it goes on when the call has been answered: repeat it
// until it is not Running any more.
type Verify struct {
	Dir sdk.Raw `json:"dir"` // holds the manifest's top-level names
	// Parts are files below the state directory's "in", in order, which the
	// agent deletes: together a listing (package listing), compressed by
	// zstd.
	Parts []VerifyPart `json:"parts"`
	Owner string       `json:"owner"` // as the copy was made: name, numeric or USER:GROUP
	// Ignore are Aspects that are not compared.
	Ignore []string `json:"ignore,omitempty"`
}

// VerifyPart is a file that was put.
type VerifyPart struct {
	Path   sdk.Raw `json:"path"`
	Digest string  `json:"digest"` // hex SHA-256
}

// Aspects are what a check can be told to leave out. Content, types, sizes and
// links' targets are always compared.
var Aspects = []string{"mode", "owner", "mtime", "xattrs", "hardlinks", "additional"}

// Verified is what a check has found; while it runs, how far it is.
type Verified struct {
	Entries int64 `json:"entries"` // of the manifest
	Files   int64 `json:"files"`   // regular ones among them
	Bytes   int64 `json:"bytes"`   // that are to be read
	Checked int64 `json:"checked"` // that were read

	Missing    int64 `json:"missing"`
	Differing  int64 `json:"differing"`  // in content, type, size, link's target or device
	Attributes int64 `json:"attributes"` // that differ in something else alone
	Additional int64 `json:"additional"` // below the manifest's top-level names
	Unproven   int64 `json:"unproven"`   // files of which the manifest has no digest

	Findings []Finding `json:"findings,omitempty"` // the first MaxFindings, or fewer where paths are long
	Warnings []Warning `json:"warnings,omitempty"`
}

// FindingKind is what is wrong with an entry.
type FindingKind string

// The kinds, each with a counter in Verified.
const (
	FindingMissing    FindingKind = "missing"
	FindingDiffers    FindingKind = "differs"
	FindingAttributes FindingKind = "attributes"
	FindingAdditional FindingKind = "additional"
)

// Finding is one entry that is not as the manifest has it.
type Finding struct {
	Kind FindingKind `json:"kind"`
	Path sdk.Raw     `json:"path"`           // as in the manifest; cut if it is very long
	What string      `json:"what,omitempty"` // in words
}

func (m *Manifest) validate(c *check) {
	c.id("an agent", m.Agent)
	c.that(m.Offset >= 0, "a piece of a manifest from %d", m.Offset)
	c.that(m.Limit > 0 && m.Limit <= MaxPiece, "a piece of a manifest of %d bytes", m.Limit)
}

func (v *Verify) validate(c *check) {
	c.absolute("the directory to check", v.Dir)
	c.that(len(v.Parts) > 0, "a check without a manifest")
	c.count("parts of a manifest", len(v.Parts), maxParts)
	for _, p := range v.Parts {
		c.absolute("a part of a manifest", p.Path)
		c.that(hexDigest.MatchString(p.Digest), "a part of a manifest has no digest")
	}
	c.text("the owner", v.Owner, maxName)
	c.count("aspects", len(v.Ignore), len(Aspects))
	for _, name := range v.Ignore {
		known := false
		for _, a := range Aspects {
			known = known || a == name
		}
		c.that(known, "nothing to ignore: %.80q", name)
	}
}

func (p *Piece) validate(c *check) {
	c.that(p.Size >= 0 && int64(len(p.Data)) <= p.Size, "a piece of %d bytes of a manifest of %d", len(p.Data), p.Size)
	c.count("bytes of a manifest", len(p.Data), MaxPiece)
}

func (v *Verified) validate(c *check) {
	for _, n := range []int64{v.Entries, v.Files, v.Bytes, v.Checked, v.Missing, v.Differing, v.Attributes, v.Additional, v.Unproven} {
		c.that(n >= 0, "a check has counted below zero")
	}
	c.count("findings", len(v.Findings), MaxFindings)
	for _, f := range v.Findings {
		switch f.Kind {
		case FindingMissing, FindingDiffers, FindingAttributes, FindingAdditional:
		default:
			c.that(false, "a finding of an unknown kind: %.80q", f.Kind)
		}
		c.raw("a finding's path", f.Path, maxFinding)
		c.text("a finding", f.What, maxText)
	}
	c.count("warnings", len(v.Warnings), maxWarnings)
	for _, w := range v.Warnings {
		c.text("a warning", w.What, maxText)
		c.raw("a warning's example", w.Example, maxPath)
	}
}

// CutPath shortens a path to what a Finding may hold.
func CutPath(p sdk.Raw) sdk.Raw {
	if len(p) <= maxFinding {
		return p
	}
	const dots = "..."
	return p[:maxFinding-len(dots)] + dots
}
