// Rocserv-worker is the process that serves one client, and nothing else: rocserv
// can be that too, but whatever a program links is initialised in every process of
// it, and this one links no other role, no configuration and no command. Main starts
// it if it lies in the folder of rocserv and is of the same build (internal/build),
// with the same arguments and the same descriptors as rocserv in that role; package
// worker is all of it. Asked for its build it says so, by a line on standard output.
package main
