package netfilter

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// tagPrefix begins the comment of each of our rules.
const tagPrefix = "transferpy:"

// idForm is the form of a transfer's id: safe in a comment, in the name of a
// chain and as an argument.
var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// Tag is what marks a rule as ours: the transfer and when the rule expires.
// It is the rule's comment.
type Tag struct {
	ID     string
	Expiry time.Time // to the second
}

// String is the comment: below 100 bytes, without blanks and quotes.
func (t Tag) String() string {
	return tagPrefix + t.ID + ":" + strconv.FormatInt(t.Expiry.Unix(), 10)
}

// ParseTag reads a comment; ok is false for one that is none of ours.
func ParseTag(comment string) (tag Tag, ok bool) {
	rest, ok := strings.CutPrefix(comment, tagPrefix)
	if !ok {
		return Tag{}, false
	}
	id, expiry, ok := strings.Cut(rest, ":")
	if !ok || !idForm.MatchString(id) {
		return Tag{}, false
	}
	unix, err := strconv.ParseInt(expiry, 10, 64)
	if err != nil || strconv.FormatInt(unix, 10) != expiry {
		return Tag{}, false
	}
	return Tag{ID: id, Expiry: time.Unix(unix, 0)}, true
}
