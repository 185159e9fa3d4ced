// Package e2e drives the built transferpy binary between the hosts of a lab
// (test/lab), as an operator would. It has no code of its own beside tests:
// the scripts in testdata say what is expected, the Go tests do what a script
// cannot (kill at a certain moment, names that are no text).
package e2e
