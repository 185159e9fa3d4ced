package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// pluginValues merges the file's plugin sections with the -o options, which
// win key by key; one key given by several -o is a list of them all.
func pluginValues(file *File, options []string, s *Settings) (map[string]map[string][]string, error) {
	merged := map[string]map[string][]string{}
	for plugin, keys := range file.plugins {
		merged[plugin] = maps.Clone(keys)
	}
	given := map[string]bool{} // "KIND/NAME.KEY" that an -o has begun
	var errs []error
	for _, text := range options {
		plugin, key, value, err := parseOption(text, slices.Concat(s.used(), slices.Sorted(maps.Keys(file.plugins))))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if merged[plugin] == nil {
			merged[plugin] = map[string][]string{}
		}
		if id := plugin + "." + key; !given[id] {
			given[id] = true
			merged[plugin][key] = nil
		}
		merged[plugin][key] = append(merged[plugin][key], value)
	}
	return merged, errors.Join(errs...)
}

// parseOption cuts PLUGIN.KEY=VALUE. PLUGIN is a plugin's name, or KIND/NAME
// where two kinds share one; plugins are those it may mean, as "KIND/NAME".
func parseOption(text string, plugins []string) (plugin, key, value string, err error) {
	left, value, ok := strings.Cut(text, "=")
	name, key, dotted := strings.Cut(left, ".")
	if !ok || !dotted || name == "" || key == "" {
		e := configError("-o %s: not of the form PLUGIN.KEY=VALUE", show(left))
		e.Hint = "for example -o ssh.connect_timeout=20s"
		return "", "", "", e
	}
	where := "-o " + show(left)
	var found, names []string
	for _, p := range plugins {
		if _, short, _ := strings.Cut(p, "/"); short == name || p == name {
			found = append(found, p)
		} else {
			names = append(names, short)
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	switch len(found) {
	case 0:
		slices.Sort(names)
		return "", "", "", unknown(where, "plugin of this run", name, slices.Compact(names))
	case 1:
		return found[0], strings.ToLower(key), value, nil
	}
	return "", "", "", configError("%s: %q may mean %s", where, name, fmt.Sprint(strings.Join(found, " or ")))
}
