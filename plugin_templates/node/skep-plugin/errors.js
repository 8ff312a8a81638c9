// What goes away by itself: the plugin pauses and tries again.

export class Temporary extends Error {}

/** The REST API can't answer now. */
export class Unavailable extends Temporary {}

/** The server said no on the WebSocket; the text is its own. */
export class Refused extends Temporary {}

/** The connection ended. */
export class Closed extends Temporary {}

/** A callback threw. */
export class HandlerFailed extends Temporary {}
