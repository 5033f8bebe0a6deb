// Lines of a text that comes in pieces. Pure.

// Cuts it at what ends a line: `ends`, a global regular expression. Each piece is looked at once,
// however long a line becomes; one of more than `most` characters is refused.
export class LineCutter {
  #ends;
  #most;
  #pieces = []; // of the line that has no end yet
  #length = 0; // of these
  #isAfterCr = false; // the last end may be the first half of CRLF

  constructor(ends, most) {
    this.#ends = ends;
    this.#most = most;
  }

  // The lines that a piece ends, without their ends. Raises: Error.
  feed(piece) {
    if (piece === "") return [];
    const text = this.#isAfterCr && piece.startsWith("\n") ? piece.slice(1) : piece;
    const lines = [];
    let from = 0;
    for (const { 0: end, index } of text.matchAll(this.#ends)) {
      this.#pieces.push(text.slice(from, index));
      lines.push(this.end());
      from = index + end.length;
    }
    this.#isAfterCr = from === text.length && text.endsWith("\r");
    this.#pieces.push(text.slice(from));
    this.#length += text.length - from;
    if (this.#length > this.#most) throw new Error(`a line has more than ${this.#most} characters`);
    return lines;
  }

  // What has come of the line that has no end.
  end() {
    const line = this.#pieces.join("");
    this.#pieces = [];
    this.#length = 0;
    return line;
  }
}
