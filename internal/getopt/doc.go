// Package getopt reads command lines as GNU getopt_long(3) does, which is how
// the programs read them whose names this one answers to.
//
//	-tfcFILE  -d 3 -d3  --debug=3  --debug 3  --deb 3  USER -l  -- -name
//
// # Theory of operation
//
// Parse takes a command line apart: short options may be joined, and joined
// with their value; long ones may be cut short as long as it is clear which is
// meant; options may stand behind arguments; -- ends them. Lines puts it
// together again in the one form that urfave/cli/v2 reads the same way: long
// names, values behind =, arguments behind --. Cli reads options as Go's flag
// package does, which knows none of the above.
//
// What is wrong is said in the words of the C library, since people search for
// them. Whether it ends the program is the caller's to say: ocserv goes on.
package getopt
