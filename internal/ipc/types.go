package ipc

import "fmt"

// Type is the first byte of a record. Where ocserv has a message of the same
// purpose the number is ocserv's (src/common-config.h, cmd_request_t).
type Type uint8

const (
	// Between worker and main.
	AuthCookieRepT  Type = 2
	AuthCookieReqT  Type = 4
	UDPFdT          Type = 10
	TunMTUT         Type = 11
	TerminateT      Type = 12
	SessionInfoT    Type = 13
	BanIPT          Type = 16
	WorkerStartupT  Type = 50
	HostInfoT       Type = 51
	UDPDatagramsT   Type = 52
	WorkerReadyT    Type = 53
	SessionStatsT   Type = 54
	WorkerStatsReqT Type = 55
	WorkerStatsT    Type = 56
	SecModFdT       Type = 57
	DetachedT       Type = 58
	RetireT         Type = 59
	RetiredT        Type = 60
	PeerNetsT       Type = 61
	PeerReqT        Type = 62
	PeerRepT        Type = 63
	PeerPairT       Type = 64
	UDPOfferT       Type = 65
	WhyT            Type = 66
	WhyAnswerT      Type = 67
	PortsReqT       Type = 68
	PortsT          Type = 69

	// Between worker and sec-mod.
	ResumeSealT Type = 6
	ResumeOpenT Type = 8
	ResumeRepT  Type = 9
	AuthInitT   Type = 120
	AuthContT   Type = 121
	AuthReplyT  Type = 122
	SignT       Type = 124
	SignRepT    Type = 125
	CliStatsT   Type = 128
	ProfileT    Type = 129
	ProfileRepT Type = 130
	WaySignT    Type = 131
	WaySignRepT Type = 132
	KDCT        Type = 133
	KDCRepT     Type = 134
	BrowseT     Type = 135
	BrowsedT    Type = 136

	// Between sec-mod and a login helper.
	HelperConfigT       Type = 150
	HelperReadyT        Type = 151
	HelperBeginT        Type = 152
	HelperAnswerT       Type = 153
	HelperCancelT       Type = 154
	HelperVerdictT      Type = 155
	HelperAccountT      Type = 156
	HelperAccountedT    Type = 157
	HelperDisconnectT   Type = 158
	HelperDisconnectedT Type = 159
	HelperRelayT        Type = 160
	HelperRelayedT      Type = 161
	HelperBrowseT       Type = 162
	HelperBrowsedT      Type = 163

	// Between main and sec-mod.
	SecmConfigT        Type = 200
	SecmConfigRepT     Type = 201
	SecmWorkerT        Type = 202
	SecmEndedT         Type = 203
	SecmViolationT     Type = 204
	SecmStatsReqT      Type = 205
	SecmStatsT         Type = 206
	SecmListCookiesT   Type = 207
	SecmCookiesT       Type = 208
	SecmTerminateT     Type = 209
	SecmTerminateRepT  Type = 210
	SecmBehindT        Type = 211
	SecmHelperReqT     Type = 212
	SecmHelperT        Type = 213
	SecmListLimitsT    Type = 214
	SecmLimitsT        Type = 215
	SecmLiftT          Type = 216
	SecmLiftedT        Type = 217
	SecmRecordT        Type = 220
	SecmRestoreT       Type = 221
	SecmRestoreRepT    Type = 222
	SecmSessionOpenT   Type = 240
	SecmSessionCloseT  Type = 241
	SecmSessionReplyT  Type = 242
	SecmSessionLeasedT Type = 246
	SecmBanIPT         Type = 243
	SecmCliStatsT      Type = 245
)

// WaySignsPerMinute is how often a worker may say SEC_WAY_SIGN, with as many at
// once. It keeps below.
const WaySignsPerMinute = 6000

// typeNames has a name for each type there is. (An array, as fds: it stands in the
// program, while a map is made in every process.)
var typeNames = [1 << 8]string{
	AuthCookieRepT: "AUTH_COOKIE_REP", AuthCookieReqT: "AUTH_COOKIE_REQ", UDPFdT: "UDP_FD",
	TunMTUT: "TUN_MTU", TerminateT: "TERMINATE", SessionInfoT: "SESSION_INFO", BanIPT: "BAN_IP",
	WorkerStartupT: "WORKER_STARTUP", HostInfoT: "HOST_INFO", UDPDatagramsT: "UDP_DATAGRAMS", UDPOfferT: "UDP_OFFER",
	WorkerReadyT: "WORKER_READY", SessionStatsT: "SESSION_STATS",
	WorkerStatsReqT: "WORKER_STATS_REQ", WorkerStatsT: "WORKER_STATS",
	DetachedT: "DETACHED", RetireT: "RETIRE", RetiredT: "RETIRED", WhyT: "WHY", WhyAnswerT: "WHY_ANSWER",
	PeerNetsT: "PEER_NETS", PeerReqT: "PEER_REQ", PeerRepT: "PEER_REP", PeerPairT: "PEER_PAIR",
	PortsReqT: "PORTS_REQ", PortsT: "PORTS",
	ResumeSealT: "RESUME_SEAL", ResumeOpenT: "RESUME_OPEN", ResumeRepT: "RESUME_REP",
	AuthInitT: "SEC_AUTH_INIT", AuthContT: "SEC_AUTH_CONT", AuthReplyT: "SEC_AUTH_REPLY",
	SignT: "SEC_SIGN", SignRepT: "SEC_SIGN_REP", CliStatsT: "SEC_CLI_STATS",
	ProfileT: "SEC_PROFILE", ProfileRepT: "SEC_PROFILE_REP", WaySignT: "SEC_WAY_SIGN", WaySignRepT: "SEC_WAY_SIGN_REP", KDCT: "SEC_KDC", KDCRepT: "SEC_KDC_REP", BrowseT: "SEC_BROWSE", BrowsedT: "SEC_BROWSE_REP",
	SecmConfigT: "SECM_CONFIG", SecmConfigRepT: "SECM_CONFIG_REP", SecmWorkerT: "SECM_WORKER",
	SecmEndedT: "SECM_ENDED", SecmViolationT: "SECM_VIOLATION", SecmSessionOpenT: "SECM_SESSION_OPEN",
	SecmSessionCloseT: "SECM_SESSION_CLOSE", SecmSessionReplyT: "SECM_SESSION_REPLY",
	SecmStatsReqT: "SECM_STATS_REQ", SecmStatsT: "SECM_STATS", SecmListCookiesT: "SECM_LIST_COOKIES", SecmCookiesT: "SECM_COOKIES",
	SecmBehindT: "SECM_BEHIND", SecmTerminateT: "SECM_TERMINATE_SESSION", SecmTerminateRepT: "SECM_TERMINATE_SESSION_REP",
	SecModFdT: "SECMOD_FD", SecmRecordT: "SECM_RECORD", SecmRestoreT: "SECM_RESTORE", SecmRestoreRepT: "SECM_RESTORE_REP",
	SecmBanIPT: "SECM_BAN_IP", SecmCliStatsT: "SECM_CLI_STATS", SecmHelperReqT: "SECM_HELPER_REQ", SecmHelperT: "SECM_HELPER",
	SecmListLimitsT: "SECM_LIST_LIMITS", SecmLimitsT: "SECM_LIMITS", SecmLiftT: "SECM_LIFT", SecmLiftedT: "SECM_LIFTED",
	HelperConfigT: "HELPER_CONFIG", HelperReadyT: "HELPER_READY", HelperBeginT: "HELPER_BEGIN", HelperAnswerT: "HELPER_ANSWER",
	HelperCancelT: "HELPER_CANCEL", HelperVerdictT: "HELPER_VERDICT", HelperBrowseT: "HELPER_BROWSE", HelperBrowsedT: "HELPER_BROWSED",
	HelperAccountT: "HELPER_ACCOUNT", HelperAccountedT: "HELPER_ACCOUNTED", HelperDisconnectT: "HELPER_DISCONNECT", HelperDisconnectedT: "HELPER_DISCONNECTED", HelperRelayT: "HELPER_RELAY", HelperRelayedT: "HELPER_RELAYED",
	SecmSessionLeasedT: "SECM_SESSION_LEASED",
}

// What a worker may ask for other clients (PEER_REQ): so many in a second, and
// so many more at once. Main's bounds are twice these, so that a worker that
// keeps to them never meets main's.
const (
	PeerRate  = 3
	PeerBurst = 16
)

func (t Type) String() string {
	if s := typeNames[t]; s != "" {
		return s
	}
	return fmt.Sprintf("message %d", uint8(t))
}

// fds is how many descriptors travel with a message; a type without a row carries none.
// A record with another number of descriptors is a violation.
var fds = [1 << 8][2]int{ // least, most
	WorkerStartupT:    {2, 2}, // the TCP connection, the WorkerConfig
	AuthCookieRepT:    {0, 3}, // the SessionConfig and pairs to keepers, with COOKIE_OK
	RetireT:           {1, 1}, // the pair to the newest worker
	PeerRepT:          {0, 1}, // the pair to another client's worker, with PEER_OPEN
	PeerPairT:         {1, 1}, // the same pair's other end
	UDPFdT:            {1, 1}, // the connected socket
	ProfileRepT:       {0, 1}, // the file's content
	SecmConfigT:       {1, 1}, // the file's bytes
	SecmWorkerT:       {1, 1}, // sec-mod's end of the worker's channel
	SecmCookiesT:      {1, 1}, // the SecmCookies
	SecmSessionReplyT: {0, 2}, // the SessionConfig and what main may read of it, with ok
	SecModFdT:         {1, 1}, // the worker's end of the channel
	SecmRestoreT:      {1, 1}, // the records
	SecmHelperT:       {0, 1}, // sec-mod's end of the helper's channel
}
