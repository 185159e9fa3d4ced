package config

import "github.com/transferpy/transferpy/core/transfer"

// Endpoint takes one HOST:PATH of a verb that makes no transfer.
func (s *Settings) Endpoint(text string) (transfer.Endpoint, error) {
	o, err := parseOperand(text)
	if err != nil {
		return transfer.Endpoint{}, err
	}
	return transfer.Endpoint{Executor: s.ExecutorFor(o.Host), Host: o.Host, Path: o.Path}, nil
}
