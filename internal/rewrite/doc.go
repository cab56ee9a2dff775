// Package rewrite replaces a file as a whole: readers see the old content or
// the new one, never a part, also after a crash or on a full disk.
//
// # Theory of operation
//
// The new content goes to a file beside the old one (same directory, so that a
// rename can replace it), is synced, gets the old one's owner and as much of
// its mode as is safe, and takes its place; then the directory is synced. The
// caller makes the new file and so decides on its name, and on what it means
// if that name is taken: ocpasswd uses it as a lock, liboath has another file
// for that.
//
// The owner's group keeps its right to read only if the new file really belongs
// to that group. Nobody else gets any right: these files hold secrets.
package rewrite
