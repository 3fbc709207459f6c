package problem

// Reasons shared by more than one service. A reason that one service alone gives is declared beside that service.
const (
	// DependencyAway (Unavailable, retryable): a store or another service did not answer.
	DependencyAway = "DEPENDENCY_AWAY"
	// NotServingYet (Unavailable, retryable): the replica is starting or warming up.
	NotServingYet = "NOT_SERVING_YET"
	// DeadlineTooShort (DeadlineExceeded, retryable with more time): the work cannot finish in the time left, so it was
	// not begun.
	DeadlineTooShort = "DEADLINE_TOO_SHORT"
	// DeadlineExceeded (DeadlineExceeded, retryable): the time ran out while the work was under way; its outcome is unknown.
	DeadlineExceeded = "DEADLINE_EXCEEDED"
	// AttemptTimeout (DeadlineExceeded, retryable): one attempt of a call took longer than an attempt may; its outcome is
	// unknown.
	AttemptTimeout = "ATTEMPT_TIMEOUT"
	// Canceled (Canceled): the caller gave up.
	Canceled = "CANCELED"
	// InvalidArgument (InvalidArgument): the request breaks a rule of its contract; metadata "field" names the field where
	// one is to blame.
	InvalidArgument = "INVALID_ARGUMENT"
	// MessageTooLarge (ResourceExhausted): the message is larger than the receiver takes.
	MessageTooLarge = "MESSAGE_TOO_LARGE"
	// CallerInvalid (InvalidArgument): the caller-identity metadata is malformed, or is not what the caller's certificate says.
	CallerInvalid = "CALLER_INVALID"
	// SessionInvalid (Unauthenticated): the session token is malformed, unknown, expired or revoked; which of them is not
	// told.
	SessionInvalid = "SESSION_INVALID"
	// IdempotencyKeyReused (FailedPrecondition): the key was used before with another body.
	IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED"
	// ShowUnknown (NotFound): there is no such show in the programme.
	ShowUnknown = "SHOW_UNKNOWN"
	// Overloaded (ResourceExhausted, retryable): refused on purpose to protect the replica.
	Overloaded = "OVERLOADED"
	// RateLimited (ResourceExhausted, retryable): more calls came than a rate limit allows; metadata "limit" says whose:
	// service or person.
	RateLimited = "RATE_LIMITED"
	// BreakerOpen (Unavailable, retryable at the edge): calls to a dependency are stopped for a while, since most of the last
	// ones failed. No hop sends such a call again.
	BreakerOpen = "BREAKER_OPEN"
	// Internal (Internal): a fault of the server; its log has the cause.
	Internal = "INTERNAL"
)
