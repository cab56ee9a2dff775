//go:build !amd64.v2

package mainproc

// without is what a worker's environment says of instructions that it shall not use:
// SSE 4.2. A library of utls' (klauspost/compress, for Snappy) makes hash/crc32's tables
// of CRC-32C when the program starts, which no worker ever needs; for the instruction
// they take 0.15 ms of each start, a twentieth, and otherwise next to nothing. Nothing
// else asks for SSE 4.2 but the search for a few letters in a text. A program that is
// built for processors that all have it (GOAMD64) knows no such option.
var without = []string{"GODEBUG=cpu.sse42=off"}
