// Recording, and sound of any kind as the WAV file that a function takes: one channel, 16 bits.

export const MOST_RECORDED_S = 120;

// Whether this page may hear: browsers allow it on https and loopback only.
export function canRecord() {
  return Boolean(navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode);
}

// Records from the microphone. `stop` gives the samples, `close` gives the microphone back, also where
// the browser still asks whether it may be used.
export class Recorder {
  #pieces = [];
  #count = 0;
  #context = null;
  #stream = null;
  isClosed = false;

  // Returns whether it records: it may be closed meanwhile.
  //
  // Raises: DOMException where the microphone is refused, or there is none.
  async start() {
    try {
      await this.#open();
    } catch (fault) {
      if (this.isClosed) return false;
      this.close();
      throw fault;
    }
    return !this.isClosed;
  }

  async #open() {
    this.#stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    if (this.isClosed) {
      this.close(); // what it had not yet then
      return;
    }
    this.#context = new AudioContext();
    await this.#context.audioWorklet.addModule(import.meta.resolve("./worklet.js"));
    if (this.isClosed) return;
    const tap = new AudioWorkletNode(this.#context, "tap", { numberOfOutputs: 0 });
    tap.port.onmessage = ({ data }) => this.#take(data);
    this.#context.createMediaStreamSource(this.#stream).connect(tap);
  }

  #take(piece) {
    if (this.seconds >= MOST_RECORDED_S) return;
    this.#pieces.push(piece);
    this.#count += piece.length;
  }

  get seconds() {
    return this.#context === null ? 0 : this.#count / this.#context.sampleRate;
  }

  // The loudest of the newest samples, from 0 to 1.
  get level() {
    return (this.#pieces.at(-1) ?? []).reduce((most, one) => Math.max(most, Math.abs(one)), 0);
  }

  // What was recorded: `{samples, rate}`.
  stop() {
    const rate = this.#context?.sampleRate ?? 48000;
    this.close();
    return { samples: joinPieces(this.#pieces), rate };
  }

  // Idempotent.
  close() {
    this.isClosed = true;
    this.#stream?.getTracks().forEach((track) => track.stop());
    if (this.#context && this.#context.state !== "closed") this.#context.close();
  }
}

// Samples at another rate.
export async function resample({ samples, rate }, wanted) {
  if (rate === wanted || samples.length === 0) return samples;
  const length = Math.max(1, Math.round((samples.length * wanted) / rate));
  const context = new OfflineAudioContext(1, length, wanted);
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

// A WAV file of samples, at a rate.
export async function wavFile(recorded, rate, name) {
  const samples = await resample(recorded, rate);
  return new File([wavOf(samples, rate)], name, { type: "audio/wav" });
}

// A file of sound as a WAV file: one channel, 16 bits, at a rate.
//
// Raises: DOMException where the browser cannot read it.
export async function convertFile(file, rate) {
  const context = new OfflineAudioContext(1, 1, rate);
  // decoded at the rate of the context
  const buffer = await context.decodeAudioData(await file.arrayBuffer());
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, at) =>
    buffer.getChannelData(at),
  );
  const name = `${file.name.replace(/\.\w+$/, "")}.wav`;
  return wavFile({ samples: mixDown(channels), rate: buffer.sampleRate }, rate, name);
}

// Pure.

// The samples of pieces, one behind the other.
export function joinPieces(pieces) {
  const joined = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}

// The mean of several channels.
export function mixDown(channels) {
  if (channels.length === 1) return channels[0];
  return channels[0].map(
    (_, at) => channels.reduce((sum, channel) => sum + channel[at], 0) / channels.length,
  );
}

const HEAD_BYTES = 44;

// A WAV file of samples from -1 to 1.
export function wavOf(samples, rate) {
  const bytes = new DataView(new ArrayBuffer(HEAD_BYTES + 2 * samples.length));
  const write = (at, text) => {
    [...text].forEach((character, index) => bytes.setUint8(at + index, character.charCodeAt(0)));
  };
  write(0, "RIFF");
  bytes.setUint32(4, bytes.byteLength - 8, true);
  write(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true); // PCM
  bytes.setUint16(22, 1, true); // channels
  bytes.setUint32(24, rate, true);
  bytes.setUint32(28, rate * 2, true);
  bytes.setUint16(32, 2, true);
  bytes.setUint16(34, 16, true);
  write(36, "data");
  bytes.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, at) => {
    const bounded = Math.max(-1, Math.min(1, sample));
    bytes.setInt16(HEAD_BYTES + 2 * at, Math.round(bounded * 32767), true);
  });
  return bytes.buffer;
}

// The rate that a text asks for ("16 kHz", "a rate of 16,000"), in Hz; null: it names none.
export function rateIn(text) {
  const found = /(\d+(?:[.,]\d+)?)\s*(k?)hz/i.exec(text ?? "");
  if (!found) return null;
  const rate = found[2] ? Number(found[1].replace(",", ".")) * 1000 : Number(found[1].replace(",", ""));
  return rate >= 4000 && rate <= 192000 ? rate : null;
}
