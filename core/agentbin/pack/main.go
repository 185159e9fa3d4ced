// Command pack compresses agents for package agentbin to embed:
//
//	go run ./core/agentbin/pack [-o DIR] bin/transferpy-agent-linux-amd64 ...
//
// The architecture is the end of each file's name. What lay in the directory
// before is replaced as a whole, so that the index always tells of all files.
package main

import (
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/transferpy/transferpy/core/agentbin"
)

func main() {
	out := flag.String("o", "core/agentbin/files", "directory to write to")
	flag.Parse()
	if err := run(*out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(out string, agents []string) error {
	if len(agents) == 0 {
		return fmt.Errorf("name the agents to pack")
	}
	old, err := filepath.Glob(filepath.Join(out, "linux-*.gz"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	index := map[string]string{}
	for _, path := range agents {
		_, arch, ok := strings.Cut(filepath.Base(path), "-linux-")
		if !ok {
			return fmt.Errorf("%s: the name does not end in -linux-ARCH", path)
		}
		binary, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		index[arch] = agentbin.Digest(binary)
		packed, err := agentbin.Pack(binary, gzip.BestCompression)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, "linux-"+arch+".gz"), packed, 0o644); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, agentbin.IndexFile), append(data, '\n'), 0o644)
}
