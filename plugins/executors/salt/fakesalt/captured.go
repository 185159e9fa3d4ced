package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

//go:embed testdata
var captures embed.FS

// captured is a file of the captures; empty if there is none.
func captured(name string) string {
	data, _ := captures.ReadFile("testdata/" + name)
	return string(data)
}

// replay prints a capture as it is and ends as it did.
func replay(name string) {
	fmt.Print(captured(name + ".stdout"))
	fmt.Fprint(os.Stderr, captured(name+".stderr"))
	code, err := strconv.Atoi(strings.TrimSpace(captured(name + ".rc")))
	if err != nil {
		panic(name + " has no exit code")
	}
	os.Exit(code)
}

// instead is what a capture has in place of a minion's result.
func instead(name, id string) any {
	for line := range strings.Lines(captured(name + ".stdout")) {
		var values map[string]any
		if json.Unmarshal([]byte(line), &values) == nil {
			if v, ok := values[id]; ok {
				return v
			}
		}
	}
	panic(name + " has nothing of " + id)
}
