package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

// File is a configuration file that has been read and whose [DEFAULT] keys
// and section names are known ones. The zero File is an empty file.
type File struct {
	// Path is what the file is called in messages.
	Path string
	// defaults are the values of [DEFAULT] by key.
	defaults map[string]located
	// plugins are the values of the plugins' sections, by "KIND/NAME" and
	// key. Their keys are checked by the plugin host, from what the plugin
	// says of itself.
	plugins map[string]map[string][]string
	// pins are the digests that plugins' files must have, by "KIND/NAME".
	pins map[string]string
}

// pinKey is the key of a plugin's section that is the core's and not the
// plugin's: the SHA-256 of its file.
const pinKey = "sha256"

// located is a value with where it stands.
type located struct {
	text  string
	where string // "/etc/... line 3: port", or "--port"
}

// Load reads the file at path. Where required is false, a file that does not
// exist is an empty one, as it is to transfer.py.
func Load(path string, required bool) (*File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !required {
		return &File{Path: path}, nil
	}
	if err != nil {
		return nil, configError("configuration file: %v", err)
	}
	defer f.Close()
	// One byte more than is allowed, so that parseINI sees the excess.
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, configError("configuration file: %v", err)
	}
	return Parse(path, data)
}

// Parse reads data as a configuration file called name. All unknown keys and
// sections are told at once (errors.Join of *sdk.Error).
func Parse(name string, data []byte) (*File, error) {
	sections, err := parseINI(show(name), data)
	if err != nil {
		return nil, err
	}
	f := &File{Path: name, defaults: map[string]located{}, plugins: map[string]map[string][]string{}, pins: map[string]string{}}
	var errs []error
	for i, s := range sections {
		plugin := ""
		if i > 0 {
			if plugin, err = pluginSection(show(name), s); err != nil {
				errs = append(errs, err)
				continue
			}
			if _, twice := f.plugins[plugin]; twice {
				errs = append(errs, configError("%s, line %d: section [%s] is here a second time", show(name), s.line, show(s.name)))
				continue
			}
			f.plugins[plugin] = map[string][]string{}
		}
		for _, o := range s.options {
			if err := f.add(plugin, s, sections[0], o); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return f, nil
}

// add takes one option of s; plugin is empty for [DEFAULT].
func (f *File) add(plugin string, s, defaults *section, o *option) error {
	where := fmt.Sprintf("%s, line %d", show(f.Path), o.line)
	value, err := interpolate(o.value, s, defaults)
	if err != nil {
		return configError("%s: %s: %v", where, show(o.key), err)
	}
	if plugin != "" && o.key == pinKey {
		if digest, err := hex.DecodeString(value); err != nil || len(digest) != sha256.Size {
			return configError("%s: sha256: %q is no SHA-256 digest in hex", where, value)
		}
		f.pins[plugin] = strings.ToLower(value)
		return nil
	}
	if plugin != "" {
		f.plugins[plugin][o.key] = []string{value}
		return nil
	}
	key := lookupKey(o.key)
	if key == nil {
		return unknown(where, "key", o.key, fileKeys())
	}
	if key.Only {
		e := configError("%s: %s cannot be set in the file", where, o.key)
		e.Hint = "give --" + key.Flag + " on the command line"
		return e
	}
	f.defaults[o.key] = located{text: value, where: where + ": " + o.key}
	return nil
}

// kinds are the kinds of plugins, as they begin a section's name.
var kinds = []string{string(sdk.KindExecutor), string(sdk.KindMode), string(sdk.KindFirewall)}

// pluginSection returns "KIND/NAME" for a section [KIND NAME].
func pluginSection(file string, s *section) (string, error) {
	where := fmt.Sprintf("%s, line %d", file, s.line)
	words := strings.FieldsFunc(s.name, isSpace)
	if len(words) != 2 {
		e := configError("%s: section [%s] is neither [DEFAULT] nor a plugin's", where, show(s.name))
		e.Hint = "a plugin's section is written [executor NAME], [mode NAME] or [firewall NAME]"
		return "", e
	}
	for _, kind := range kinds {
		if words[0] != kind {
			continue
		}
		name, err := parseName(words[1])
		if err != nil {
			return "", configError("%s: section [%s]: %v", where, show(s.name), err)
		}
		return kind + "/" + name, nil
	}
	return "", unknown(where, "kind of plugin", words[0], kinds)
}
