package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/transferpy/transferpy/sdk"
)

// maxFile is the largest configuration file that is read, in bytes.
const maxFile = 1 << 20

// defaultSection is the section that configparser and transfer.py use for
// what belongs to no part.
const defaultSection = "DEFAULT"

// option is one key of a section with its raw value: continuation lines
// joined by newlines, nothing interpolated yet.
type option struct {
	key   string // lower case
	value string
	line  int // where the key stands, from 1

	lines []string // of the value while it is read
}

// section is one section of an INI file, its options in the order of the
// file.
type section struct {
	name    string
	line    int
	options []*option
	byKey   map[string]*option
}

func newSection(name string, line int) *section {
	return &section{name: name, line: line, byKey: map[string]*option{}}
}

// parseINI reads data as Python's configparser does with its default
// settings: `=` and `:` divide key and value, keys are folded to lower case,
// `#` and `;` begin a comment only as the first thing of a line, a line that
// is indented deeper than its key goes on with the value, and a key or section
// that comes twice is an error. ([DEFAULT] may come several times.) name is
// used in errors only. The first section returned is always [DEFAULT].
//
// It is written here and not taken from a library because those we know
// unquote values, take backslashes for continuations and let the last of two
// equal keys win, and tell no line numbers; a test compares it with Python's.
func parseINI(name string, data []byte) ([]*section, error) {
	p := iniParser{file: name, all: []*section{newSection(defaultSection, 0)}, known: map[string]*section{}}
	if len(data) > maxFile {
		return nil, configError("%s: larger than %d bytes; is this the configuration file?", name, maxFile)
	}
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	for i, line := range strings.Split(string(data), "\n") {
		p.number = i + 1
		if !utf8.ValidString(line) {
			return nil, p.errorf("not UTF-8 text")
		}
		if strings.ContainsRune(line, 0) {
			return nil, p.errorf("holds a NUL byte")
		}
		if err := p.line(line); err != nil {
			return nil, err
		}
	}
	for _, s := range p.all {
		for _, o := range s.options {
			o.value, o.lines = strings.TrimRightFunc(strings.Join(o.lines, "\n"), isSpace), nil
		}
	}
	return p.all, nil
}

// iniParser is parseINI's state between two lines.
type iniParser struct {
	file   string
	number int // of the line, from 1
	all    []*section
	known  map[string]*section // by name, without [DEFAULT]
	cur    *section            // nil before the first header
	opened bool                // the last option of cur can still be continued
	indent int                 // of the last header or key
}

func (p *iniParser) errorf(format string, args ...any) error {
	return configError("%s, line %d: %s", p.file, p.number, fmt.Sprintf(format, args...))
}

// line takes one line.
func (p *iniParser) line(line string) error {
	text := strings.TrimFunc(line, isSpace)
	switch {
	case text == "":
		if p.opened {
			p.append("")
		}
		return nil
	case text[0] == '#' || text[0] == ';':
		return nil
	}
	indent := 0
	for _, r := range line {
		if !isSpace(r) {
			break
		}
		indent++
	}
	if p.opened && indent > p.indent {
		p.append(text)
		return nil
	}
	p.indent = indent
	if end := strings.LastIndexByte(text, ']'); text[0] == '[' && end > 1 {
		return p.header(text[1:end])
	}
	return p.option(text)
}

// append adds a line to the value of the last option.
func (p *iniParser) append(text string) {
	last := p.cur.options[len(p.cur.options)-1]
	last.lines = append(last.lines, text)
}

// header begins a section.
func (p *iniParser) header(name string) error {
	p.opened = false
	if name == defaultSection {
		p.cur = p.all[0]
		return nil
	}
	if first := p.known[name]; first != nil {
		return p.errorf("section [%s] is here a second time (first in line %d)", show(name), first.line)
	}
	p.cur = newSection(name, p.number)
	p.known[name] = p.cur
	p.all = append(p.all, p.cur)
	return nil
}

// option takes a `key = value` line.
func (p *iniParser) option(text string) error {
	if p.cur == nil {
		return p.errorf("%q stands before the first section; put a line [DEFAULT] above it", text)
	}
	at := strings.IndexAny(text, "=:")
	if at < 0 {
		return p.errorf("%q is neither `key = value` nor a [section]", text)
	}
	key := strings.ToLower(strings.TrimRightFunc(text[:at], isSpace))
	if key == "" {
		return p.errorf("%q has no key before the %q", text, text[at:at+1])
	}
	if first := p.cur.byKey[key]; first != nil {
		return p.errorf("key %s is here a second time in [%s] (first in line %d)", show(key), show(p.cur.name), first.line)
	}
	o := &option{key: key, line: p.number, lines: []string{strings.TrimFunc(text[at+1:], isSpace)}}
	p.cur.byKey[key] = o
	p.cur.options = append(p.cur.options, o)
	p.opened = true
	return nil
}

// isSpace reports what Python's str.strip takes away.
func isSpace(r rune) bool {
	return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f
}

// show makes text from a file safe to print.
func show(s string) string { return sdk.Raw(s).Display() }

// configError makes an error that concerns a setting.
func configError(format string, args ...any) *sdk.Error {
	return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf(format, args...)}
}
