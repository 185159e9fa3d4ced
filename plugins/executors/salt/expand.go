package salt

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/sdk"
)

// queryTime bounds the finding of minions.
const queryTime = 28 * time.Second

// Expand implements sdk.Expander. A query with blanks or an @ is a compound
// expression (G@os:Debian and db*), one with commas a list of ids, all else a
// glob. It finds the minions that the master knows, whether they answer or
// not.
func (e *executor) Expand(ctx context.Context, query string) ([]string, error) {
	if query == "" || strings.HasPrefix(query, "-") || strings.ContainsAny(query, "\x00\n\r") {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("%q is no query for salt", query)}
	}
	args := append(slices.Clone(e.command), "--preview-target", "--out=json")
	switch {
	case strings.ContainsAny(query, " @"):
		args = append(args, "-C")
	case strings.Contains(query, ","):
		args = append(args, "-L")
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	out, err := program.Program{Argv: append(args, query), Env: e.env, MaxOutput: maxLine}.Run(ctx)
	if err != nil {
		return nil, err
	}
	ids, ok := list(out.Stdout)
	if !ok {
		err := silence(string(out.Stdout), out, nil)
		err.Message = fmt.Sprintf("salt does not answer the query %q: %s", query, err.Message)
		return nil, err
	}
	hosts := make([]string, len(ids))
	for i, id := range ids {
		host, err := e.id.host(id)
		if err != nil {
			return nil, err
		}
		hosts[i] = host
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// list finds the list of ids in what salt prints, behind whatever it warns of.
func list(stdout []byte) (ids []string, ok bool) {
	text := string(stdout)
	for at := 0; at < len(text); {
		if text[at] == '[' && json.NewDecoder(strings.NewReader(text[at:])).Decode(&ids) == nil {
			return ids, true
		}
		next := strings.IndexByte(text[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return nil, false
}
