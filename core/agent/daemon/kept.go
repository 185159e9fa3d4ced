package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// keptTransferDir is where the agents of earlier attempts at a transfer are
// put aside while it is resumed, so that the new agent is the only one that
// answers.
func (s *state) keptTransferDir(transfer string) string {
	return filepath.Join(s.sub(keptDir), transfer)
}

// putAside undoes what dead agents of earlier attempts have left but what a
// resumed transfer can use, and moves that out of the way. It returns the
// directories of all that was put aside so far, the newest first.
func putAside(ctx context.Context, state *state, transfer string) ([]string, error) {
	dirs, err := listAgents(state, transfer)
	if err != nil {
		return nil, err
	}
	aside := state.keptTransferDir(transfer)
	for _, d := range dirs {
		if d.look() == alive { // another executor's, of this attempt
			continue
		}
		if _, err := recoverAgent(ctx, d, true); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if _, err := os.Lstat(d.path); err != nil {
			continue // nothing of it is of use
		}
		if err := errors.Join(makePrivate(state.sub(keptDir)), makePrivate(aside)); err != nil {
			return nil, err
		}
		if err := os.Rename(d.path, filepath.Join(aside, d.id)); err != nil {
			return nil, fmt.Errorf("put aside what an agent has kept: %w", err)
		}
	}
	return keptPaths(aside)
}

// keptPaths are the directories that were put aside, the newest first.
func keptPaths(aside string) ([]string, error) {
	kept, err := agentsIn(aside)
	if err != nil {
		return nil, err
	}
	made := make(map[string]time.Time)
	var paths []string
	for _, d := range kept {
		if info, err := os.Stat(filepath.Join(d.path, infoName)); err == nil {
			made[d.path] = info.ModTime()
		}
		paths = append(paths, d.path)
	}
	slices.SortFunc(paths, func(a, b string) int { return cmp.Or(made[b].Compare(made[a]), cmp.Compare(a, b)) })
	return paths, nil
}

// dropKept removes what was put aside, by its undos, unless an agent of the
// transfer is here that may use it or has left something itself. It returns
// those that failed.
func dropKept(ctx context.Context, state *state, transfer string) (map[agentDir]error, error) {
	if left, err := listAgents(state, transfer); err != nil || len(left) > 0 {
		return nil, err
	}
	kept, err := agentsIn(state.keptTransferDir(transfer))
	if err != nil {
		return nil, err
	}
	failed := make(map[agentDir]error)
	for _, d := range kept {
		if _, err := recoverAgent(ctx, d, false); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed[d] = err
		}
	}
	return failed, nil
}
