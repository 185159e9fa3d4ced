package cumin

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/transferpy/transferpy/plugins/executors/program"
)

// separator is the line that cumin 4 prints before what it was asked for;
// cumin 5 is to print none.
const separator = "_____FORMATTED_OUTPUT_____\n"

// readOutput reads what cumin -o json prints: what each host printed, stdout
// and stderr as one text. Hosts that printed nothing are not in it. whole
// says that there was such an output at all.
//
// No host can forge another's: what it prints stands inside a JSON string,
// behind the first separator.
func readOutput(stdout []byte) (said map[string]string, whole bool) {
	if i := bytes.Index(stdout, []byte(separator)); i >= 0 {
		stdout = stdout[i+len(separator):]
	}
	if err := json.Unmarshal(stdout, &said); err != nil || said == nil {
		return nil, false
	}
	return said, true
}

// colour is a terminal's control sequence.
var colour = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`)

// plain is the end of what cumin said, without its colours.
func plain(b []byte) string { return program.Tail(colour.ReplaceAll(b, nil)) }

// complaint is the line of cumin's that says what is wrong.
func complaint(stderr string) string {
	last := "it said nothing"
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "Caught ") || strings.HasPrefix(line, "cumin: error:") {
			return line[:min(len(line), 300)]
		}
		if line != "" {
			last = line
		}
	}
	return last[:min(len(last), 300)]
}
