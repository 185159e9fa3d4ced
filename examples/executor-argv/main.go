// Command transferpy-executor-argv is an executor for a site that has a
// program of its own for running a line of shell on a host: the program's
// argument list is a template in the configuration,
//
//	[executor argv]
//	command = run
//	    --host
//	    {host}
//	    --
//	    {script}
//	query = run
//	    --list
//	    {query}
//
// The program prints what the script prints; its own exit code says only
// whether it reached the host. query, which may be left out, serves
// transferpy --targets: it prints the hosts that a query finds, one a line.
package main

import "github.com/transferpy/transferpy/sdk/plugin"

func main() { plugin.Serve(newExecutor()) }
