package salt

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

const (
	hostWord  = "{host}"
	shortWord = "{short}"
)

// idPattern is a minion id that salt -L takes for one id and nothing else:
// it splits at commas and blanks, and others of its matchers know * ? [ ].
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$`)

// idTemplate makes the minion id of a host's name.
type idTemplate string

func (t idTemplate) check() error {
	words := strings.Count(string(t), hostWord) + strings.Count(string(t), shortWord)
	if words != 1 || !idPattern.MatchString(t.fill("x")) {
		return errors.New(`it must hold {host} or {short} once, and letters, digits, ".", "-" and "_" beside`)
	}
	return nil
}

func (t idTemplate) fill(host string) string {
	short, _, _ := strings.Cut(host, ".")
	return strings.NewReplacer(hostWord, host, shortWord, short).Replace(string(t))
}

// of returns a host's minion id.
func (t idTemplate) of(host string) (string, *sdk.Error) {
	id := t.fill(host)
	// Of the name too: a template may cut off what is wrong with it.
	if !idPattern.MatchString(host) || !idPattern.MatchString(id) {
		return "", &sdk.Error{
			Kind: sdk.KindConfig, Host: host,
			Message: fmt.Sprintf("%q is no host name for salt", host),
			Hint:    "name a host; what finds hosts by globs and other expressions is --targets",
		}
	}
	return id, nil
}

// host returns a name of which the template makes this id.
func (t idTemplate) host(id string) (string, *sdk.Error) {
	before, after, _ := strings.Cut(strings.ReplaceAll(string(t), shortWord, hostWord), hostWord)
	name := strings.TrimSuffix(strings.TrimPrefix(id, before), after)
	if made, err := t.of(name); err != nil || made != id {
		return "", &sdk.Error{
			Kind:    sdk.KindConfig,
			Message: fmt.Sprintf("no host name has the minion id %q by the template %s", id, string(t)),
			Hint:    "set id in [executor salt] so that it makes the ids of your minions, or narrow the query",
		}
	}
	return name, nil
}
