package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/fields"
)

// values are the settings in text form after the precedence was applied; its
// accessors parse them and collect what is wrong in errs.
type values struct {
	by    map[string]located
	lists map[string][]string
	flags map[string]bool // the names that the command line set
	errs  []error
}

// merge applies the precedence: flag, file, built-in default.
func merge(flags Flags, file *File) (*values, error) {
	v := &values{by: map[string]located{}, lists: map[string][]string{}, flags: map[string]bool{}}
	known := 0
	for _, k := range Keys {
		v.by[k.Name] = located{text: k.Default, where: "the built-in default of " + k.Name}
		if l, ok := file.defaults[k.Name]; ok {
			v.by[k.Name], v.lists[k.Name] = l, []string{l.text}
		}
		if k.Flag == "" {
			continue
		}
		if texts, ok := flags[k.Flag]; ok {
			known++
			v.set(k, "--"+k.Flag, texts)
		}
		if texts, ok := flags["no-"+k.Flag]; ok && k.Negate {
			known++
			if _, both := flags[k.Flag]; both {
				v.errs = append(v.errs, configError("--%s and --no-%s contradict each other", k.Flag, k.Flag))
			}
			v.set(k, "--no-"+k.Flag, inverted(texts))
		}
	}
	if known != len(flags) {
		return nil, &sdk.Error{Kind: sdk.KindInternal, Message: fmt.Sprintf("flags without a key: %v", flags)}
	}
	return v, errors.Join(v.errs...)
}

// set records what a flag says; the last of several counts, but for lists.
func (v *values) set(k Key, where string, texts []string) {
	if len(texts) == 0 {
		return
	}
	v.flags[k.Name] = true
	v.by[k.Name] = located{text: texts[len(texts)-1], where: where}
	v.lists[k.Name] = texts
}

// inverted is the positive form of a --no- flag's last text.
func inverted(texts []string) []string {
	if len(texts) == 0 {
		return nil
	}
	last := texts[len(texts)-1]
	if on, err := parseBool(last); err == nil {
		return []string{map[bool]string{true: "no", false: "yes"}[on]}
	}
	return []string{last}
}

// byFlag reports whether the command line set a key.
func (v *values) byFlag(name string) bool { return v.flags[name] }

// get returns a key's value with its place.
func (v *values) get(name string) located { return v.by[name] }

// list returns the texts of a key that may be given several times.
func (v *values) list(name string) []string { return v.lists[name] }

// fail notes that a value is wrong.
func (v *values) fail(l located, err error) {
	v.errs = append(v.errs, configError("%s: %v", l.where, err))
}

// parsed parses a value; one that is empty by default is the zero value.
func parsed[T any](v *values, name string, parse func(string) (T, error)) T {
	var zero T
	l := v.get(name)
	if l.text == "" && lookupKey(name).Default == "" && !v.byFlag(name) {
		return zero
	}
	value, err := parse(l.text)
	if err != nil {
		v.fail(l, err)
		return zero
	}
	return value
}

// bool parses a yes or no.
func (v *values) bool(name string) bool { return parsed(v, name, parseBool) }

// int parses a whole number from 0 to high.
func (v *values) int(name string, high int) int {
	return parsed(v, name, func(text string) (int, error) { return parseInt(text, 0, high) })
}

// enum checks that the value is one of the key's.
func (v *values) enum(name string) string {
	return parsed(v, name, func(text string) (string, error) {
		names := lookupKey(name).Enum
		for _, n := range names {
			if text == n {
				return n, nil
			}
		}
		if near := fields.Nearest(text, names); near != "" {
			return "", fmt.Errorf("%q is not known; did you mean %q?", text, near)
		}
		return "", fmt.Errorf("%q is not known; it is one of %s", text, strings.Join(names, ", "))
	})
}
