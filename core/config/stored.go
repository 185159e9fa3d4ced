package config

import (
	"maps"

	"github.com/transferpy/transferpy/core/transfer"
)

// Restore takes the stored request of an earlier run, so that plugins are
// configured as they were: its values stand in place of the file's, plugin by
// plugin, and options (PLUGIN.KEY=VALUE) win over both. Secrets are references
// there too, which are read again.
func (s *Settings) Restore(stored transfer.Request, options []string) error {
	s.Request, s.Executor = stored, stored.Source.Executor
	for _, t := range stored.Targets { // all ends but localhost have the same
		if s.Executor == "local" {
			s.Executor = t.Executor
		}
	}
	plugins := maps.Clone(s.Plugins)
	if plugins == nil {
		plugins = map[string]map[string][]string{}
	}
	maps.Copy(plugins, stored.PluginConfig)
	merged, err := pluginValues(&File{plugins: plugins}, options, s)
	if err != nil {
		return err
	}
	s.Plugins = merged
	return nil
}
