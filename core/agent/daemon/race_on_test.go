//go:build race

package daemon

// raceEnabled has the agent built as the tests are.
const raceEnabled = true
