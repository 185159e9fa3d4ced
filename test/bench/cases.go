package main

import "slices"

// testCase is data on a kind of storage behind a kind of link, and who copies
// it.
type testCase struct {
	name, title string
	data        dataset
	disk        bool   // else in memory
	cap         string // of the link, as tc writes it; empty: none
	bits        int64  // the same in bit/s
	rounds      int    // at most so many; 0: as asked for
	contenders  []contender
}

// The sizes that the cases are about.
const (
	innodbBytes = 1_950_000_000
	smallFiles  = 100_000
	largeBytes  = 4_000_000_000
	fanBytes    = 1_000_000_000
	// A virtual machine may pay several times as much for the first use of
	// memory that its host has taken back. The copies of one run stay below
	// what it usually holds, or that would be all that is seen.
	fanMemoryBytes = 500_000_000
	tinyFiles      = 1_000_000
	sparseBytes    = 20_000_000_000
)

// cases are all cases, those with marks first: a long run may be interrupted.
func cases() []testCase {
	database, files, file := dataset{innodb, innodbBytes}, dataset{small, smallFiles}, dataset{large, largeBytes}
	return []testCase{
		{name: "innodb-tmpfs", title: "InnoDB directory, in memory", data: database,
			contenders: once(some(oursPlain, oursDefault, oursUnread, oursParallel, oursChain, peerNC, peerZstd, peerSSH, peerRsync, peerAsIs, peerRepaired), oursChain)},
		{name: "small-tmpfs", title: "100,000 files of 0-16 kB, in memory", data: files,
			contenders: some(oursPlain, oursDefault, oursUnread, oursParallel, peerNC, peerZstd, peerSSH, peerRsync, peerRepaired)},
		{name: "large-tmpfs", title: "one file of 4 GB that does not compress, in memory", data: file,
			contenders: some(oursPlain, oursDefault, oursUnread, oursParallel, peerNC, peerZstd, peerSSH, peerRsync)},
		{name: "innodb-disk", title: "InnoDB directory, on disk", data: database, disk: true,
			contenders: some(oursPlain, oursDefault, oursUnread, peerNC, peerVerified, peerSSH, peerRsync)},
		{name: "innodb-200mbit", title: "InnoDB directory, in memory, link of 200 Mbit/s", data: database, cap: "200mbit", bits: 200e6,
			contenders: once(some(oursDefault, peerZstd, peerNC, peerRepaired), peerNC)},
		{name: "innodb-1gbit", title: "InnoDB directory, in memory, link of 1 Gbit/s", data: database, cap: "1gbit", bits: 1e9,
			contenders: some(oursPlain, oursDefault, peerNC, peerZstd, peerRsync, peerRepaired)},
		{name: "fan-200mbit", title: "one file of 1 GB that does not compress to several targets, in memory, every link of 200 Mbit/s", data: dataset{large, fanBytes}, cap: "200mbit", bits: 200e6,
			contenders: some(oursDefault, oursChain, oursFour, oursEight)},
		{name: "fan-tmpfs", title: "one file of 0.5 GB that does not compress to several targets, in memory", data: dataset{large, fanMemoryBytes},
			contenders: some(oursDefault, oursChain, oursThree, oursFour)},
		{name: "fan-fixed", title: "1 MB to many targets, in memory (for what each costs beside its bytes)", data: dataset{large, 1_000_000},
			contenders: some(oursDefault, oursChain, oursFour, oursEight, oursSixteen, oursMany)},
		{name: "small-disk", title: "100,000 files of 0-16 kB, on disk", data: files, disk: true,
			contenders: some(oursDefault, oursUnread, peerNC, peerRsync)},
		{name: "large-disk", title: "one file of 4 GB that does not compress, on disk", data: file, disk: true,
			contenders: some(oursDefault, peerNC, peerVerified, peerRsync)},
		{name: "sparse-disk", title: "one sparse file of 20 GB, on disk (for the agents' memory)", data: dataset{sparse, sparseBytes}, disk: true, rounds: 1,
			contenders: some(oursDefault, oursChain)},
		{name: "million-disk", title: "1,000,000 files of 0-64 bytes, on disk (for the agents' memory)", data: dataset{tiny, tinyFiles}, disk: true, rounds: 1,
			contenders: some(oursDefault, oursChain, peerNC)},
	}
}

// once marks contenders of these names as too slow for more than one round.
func once(list []contender, names ...string) []contender {
	for i := range list {
		list[i].once = list[i].once || slices.Contains(names, list[i].name)
	}
	return list
}

// fan is how many targets the case needs: those of the contender with the most.
func (c testCase) fan() int {
	most := 1
	for _, p := range c.contenders {
		most = max(most, p.fan)
	}
	return most
}
