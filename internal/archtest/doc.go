// Package archtest holds the rules of who may know whom, each with its
// reason, as tests over the whole module. It has no code of its own.
package archtest
