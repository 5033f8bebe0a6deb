// A field that takes a file: dropped, chosen, pasted; a picture by the camera, a sound recorded.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { announce } from "../parts/announce.js";
import { formatBytes, formatNumber } from "../parts/format.js";
import { html } from "../parts/html.js";
import { MOST_RECORDED_S, Recorder, canRecord, convertFile, rateIn, wavFile } from "./sound.js";

const RATES = [8000, 16000, 22050, 24000, 44100, 48000];
const USUAL_RATE = 16000;
const LEVEL_MS = 100;

// An element that has just gone, or shows another file with the next frame, may read it still.
const READ_MS = 10_000;

// A URL of a file's content, as long as the element that shows it is there.
export function useObjectUrl(file) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    if (!file) {
      setUrl("");
      return undefined;
    }
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => {
      setTimeout(() => URL.revokeObjectURL(made), READ_MS);
    };
  }, [file]);
  return url;
}

const WORDS = {
  picture: { what: "picture", accept: "image/*" },
  sound: { what: "sound", accept: "audio/*" },
  any: { what: "file", accept: "" },
};

// `files` are those that are chosen; `onChange(files)` gives others.
export function FileField({ id, field, files, onChange, describedBy, isInvalid }) {
  const [isOver, setOver] = useState(false);
  const [fault, setFault] = useState("");
  const [isTaking, setTaking] = useState(false);
  const { what, accept } = WORDS[field.media];
  const input = useRef(null);
  const take = (chosen) => {
    const list = [...chosen];
    if (list.length === 0) return;
    setFault("");
    onChange(field.isMany ? [...files, ...list] : list.slice(0, 1));
    announce(`${list[0].name || what} is chosen.`);
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files);
  };
  const over = (event) => {
    event.preventDefault();
    setOver(true);
  };
  const paste = (event) => {
    if (event.clipboardData.files.length === 0) return;
    event.preventDefault();
    take(event.clipboardData.files);
  };
  const choose = (event) => {
    take(event.target.files);
    event.target.value = ""; // the same file may be chosen again
  };
  const taken = (file) => {
    setTaking(false);
    take([file]);
  };
  const left = (why) => {
    setTaking(false);
    setFault(why);
  };
  return html`<div class="try-file ${isOver ? "over" : ""}" onDragOver=${over}
    onDragLeave=${() => setOver(false)} onDrop=${drop} onPaste=${paste}>
    <div class="try-row">
      <input class="visually-hidden" type="file" id=${id} ref=${input} accept=${accept}
        multiple=${field.isMany} aria-describedby=${describedBy} aria-invalid=${isInvalid}
        onChange=${choose} />
      <label class="button try-choose" for=${id}>Choose a ${what}</label>
      <span class="muted">or drop it here</span>
      ${field.media === "picture" && canTake() && !isTaking && html`
        <button type="button" class="button" onClick=${() => setTaking(true)}>Camera</button>`}
      ${field.media === "sound" && html`<${SoundTools} field=${field} files=${files}
        onTake=${take} onReplace=${onChange} onFault=${setFault} />`}
    </div>
    ${isTaking && html`<${Camera} onTaken=${taken} onClose=${left} />`}
    ${fault && html`<p class="note bad" role="alert">${fault}</p>`}
    ${files.length > 0 && html`<ul class="try-chosen">
      ${files.map((file, at) => html`<${Chosen} key=${`${file.name} ${at}`} file=${file}
        media=${field.media}
        onRemove=${() => onChange(files.filter((_, index) => index !== at))} />`)}
    </ul>`}
  </div>`;
}

function Chosen({ file, media, onRemove }) {
  const isKnown = /^(image|audio)\//.test(file.type);
  const url = useObjectUrl(media !== "any" && isKnown ? file : null);
  const name = file.name || "without a name";
  return html`<li>
    ${media === "picture" && url && html`<img class="try-thumb" src=${url} alt="" />`}
    <span class="try-name">${name}</span>
    <span class="muted num">${formatBytes(file.size)}${file.type && ` · ${file.type}`}</span>
    ${media === "sound" && url && html`<audio controls preload="metadata" src=${url}
      aria-label=${name}></audio>`}
    <button type="button" class="button quiet small" onClick=${onRemove}
      aria-label=${`Remove ${name}`}>Remove</button>
  </li>`;
}

// Recording, and conversion to what most functions of sound take: WAV, one channel, 16 bits.
function SoundTools({ field, files, onTake, onReplace, onFault }) {
  const [rate, setRate] = useState(rateIn(field.description) ?? USUAL_RATE);
  const [isBusy, setBusy] = useState(false);
  const rates = RATES.includes(rate) ? RATES : [...RATES, rate].sort((one, other) => one - other);
  const convert = async () => {
    setBusy(true);
    try {
      onReplace(await Promise.all(files.map((file) => convertFile(file, rate))));
      announce("Converted.");
    } catch {
      onFault("The browser cannot read this sound. It reads WAV, MP3, OGG, FLAC and what it plays.");
    }
    setBusy(false);
  };
  return html`
    <${RecordButton} rate=${rate} onTake=${onTake} onFault=${onFault} />
    <label class="try-rate">
      <span class="muted">WAV at</span>
      <select value=${rate} onChange=${(event) => setRate(Number(event.target.value))}>
        ${rates.map((one) => html`<option key=${one} value=${one}>
          ${formatNumber(one / 1000)} kHz
        </option>`)}
      </select>
    </label>
    ${files.length > 0 && html`<button type="button" class="button" disabled=${isBusy}
      onClick=${convert}>Convert to WAV</button>`}
  `;
}

function RecordButton({ rate, onTake, onFault }) {
  const recorder = useRef(null); // from when the browser is asked for the microphone
  const [recorded, setRecorded] = useState(null); // {seconds, level} while it records
  useLayoutEffect(() => () => recorder.current?.close(), []);
  const isRecording = recorded !== null;
  useEffect(() => {
    if (!isRecording) return undefined;
    const timer = setInterval(() => {
      if (recorder.current === null) return; // stopped, and not drawn yet
      const { seconds, level } = recorder.current;
      setRecorded({ seconds, level });
      if (seconds >= MOST_RECORDED_S) stop();
    }, LEVEL_MS);
    return () => clearInterval(timer);
  }, [isRecording]);
  const start = async () => {
    if (recorder.current !== null) return; // the browser asks already
    onFault("");
    recorder.current = new Recorder();
    try {
      if (!(await recorder.current.start())) return; // the view was left meanwhile
    } catch (fault) {
      recorder.current = null;
      onFault(deviceFault(fault));
      return;
    }
    setRecorded({ seconds: 0, level: 0 });
    announce("Recording.");
  };
  const stop = async () => {
    const { current } = recorder;
    recorder.current = null;
    setRecorded(null);
    if (current === null) return;
    const sound = current.stop();
    if (sound.samples.length === 0) {
      onFault("Nothing was recorded.");
      return;
    }
    onTake([await wavFile(sound, rate, "recording.wav")]);
  };
  if (!canRecord()) {
    return html`<span class="muted">Recording needs https, or localhost.</span>`;
  }
  if (!isRecording) {
    return html`<button type="button" class="button" onClick=${start}>Record</button>`;
  }
  const width = `${Math.min(100, Math.round(recorded.level * 100))}%`;
  return html`<button type="button" class="button danger" onClick=${stop}>
      Stop at ${formatNumber(recorded.seconds, 1)} s
    </button>
    <span class="try-level" aria-hidden="true"><span style=${{ width }}></span></span>`;
}

function canTake() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

// What the camera sees, and a button that takes it: `onTaken(file)` with the picture; `onClose(fault)`
// where there is none, or it was left.
function Camera({ onTaken, onClose }) {
  const video = useRef(null);
  const stream = useRef(null);
  const [isReady, setReady] = useState(false);
  useEffect(() => {
    let isLeft = false;
    const end = () => {
      isLeft = true;
      stream.current?.getTracks().forEach((track) => track.stop());
    };
    navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).then(
      (opened) => {
        stream.current = opened;
        if (isLeft) end();
        else video.current.srcObject = opened;
      },
      (fault) => {
        if (!isLeft) onClose(deviceFault(fault));
      },
    );
    return end;
  }, []);
  const take = () => {
    const { videoWidth: width, videoHeight: height } = video.current;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(video.current, 0, 0);
    canvas.toBlob(
      (blob) => onTaken(new File([blob], "photo.jpg", { type: "image/jpeg" })),
      "image/jpeg",
      0.92,
    );
  };
  return html`<div class="try-camera">
    <video ref=${video} autoplay playsinline muted aria-label="What the camera sees"
      onLoadedData=${() => setReady(true)}></video>
    <div class="try-row">
      <button type="button" class="button primary" disabled=${!isReady} onClick=${take}>
        Take the picture
      </button>
      <button type="button" class="button" onClick=${() => onClose("")}>Cancel</button>
    </div>
  </div>`;
}

function deviceFault({ name, message }) {
  if (name === "NotAllowedError") return "The browser was not allowed to use it: its settings for this page say so.";
  if (name === "NotFoundError") return "There is none at this machine.";
  return `It does not work: ${message || name}.`;
}
