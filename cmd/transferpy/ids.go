package main

import (
	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/journal"
)

// notEnded, leftBehind and kept choose from the journals of this user.
func notEnded(e journal.Summary) bool   { return !e.Ended }
func leftBehind(e journal.Summary) bool { return !e.Ended && !e.Held && e.Kept == nil && e.Err == nil }
func resumable(e journal.Summary) bool {
	return !e.Ended && !e.Held && (e.Kept != nil || keepsPartial(e))
}
func anyTransfer(journal.Summary) bool { return true }

// idsOf are the ids of the transfers that are chosen, oldest first.
func idsOf(choose func(journal.Summary) bool) ([]string, error) {
	dir, err := journal.Dir()
	if err != nil {
		return nil, err
	}
	list, err := journal.List(dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range list {
		if choose(e) {
			ids = append(ids, e.Transfer)
		}
	}
	return ids, nil
}

// completeIDs completes an ID on the command line.
func completeIDs(choose func(journal.Summary) bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ids, err := idsOf(choose)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}
