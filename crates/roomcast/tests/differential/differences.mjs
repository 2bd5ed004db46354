// The differences that are meant. Each stands in `docs/differences.md` with its reason, under the same heading. One that `goesOn` leaves both
// servers in the same state, so that what follows is compared, too.

import { isDeepStrictEqual } from "node:util";

import { haveAttachments, meanings } from "./canonical.mjs";

const sent = ({ step }) => step.packets ?? [];
const ends = (observation) => observation?.seen?.at(-1)?.end ?? "";
const isFatal = (observation) => ends(observation) !== "";
const sameButForPackets = ({ node, ours }, same) => {
  if (!node?.seen || !ours?.seen) return false;
  const [{ seen: theirs, ...nodeRest }, { seen, ...oursRest }] = [node, ours];
  return isDeepStrictEqual(meanings([nodeRest.question]), meanings([oursRest.question])) && isDeepStrictEqual({ ...nodeRest, question: 0 }, { ...oursRest, question: 0 }) && same(theirs, seen);
};
const sameMeaning = (theirs, seen) => isDeepStrictEqual(meanings(theirs), meanings(seen));

const isPong = (packet) => typeof packet === "string" && packet.startsWith("3");
const pongsFirst = (packets) => [...packets.filter(isPong), ...packets.filter((packet) => !isPong(packet))];

export const DIFFERENCES = [
  {
    heading: "Attachments keep the numbers that the sender gave them",
    goesOn: true,
    explains: (differs) => sameButForPackets(differs, (theirs, seen) => haveAttachments(theirs) && sameMeaning(theirs, seen)),
  },
  {
    heading: "JSON goes through as it was written",
    goesOn: true,
    explains: (differs) => sameButForPackets(differs, (theirs, seen) => !haveAttachments(theirs) && sameMeaning(theirs, seen)),
  },
  {
    heading: "A packet that is none is named before its session ends",
    explains: ({ node, ours }) => {
      const named = ours.seen?.findIndex((packet) => /^42(\/[^,]*,)?\["error",\{"code":"bad_message"/.test(packet)) ?? -1;
      return named >= 0 && isDeepStrictEqual(node.seen.slice(-1), ours.seen.slice(-1)) && isDeepStrictEqual(meanings(node.seen.slice(0, named)), meanings(ours.seen.slice(0, named)));
    },
  },
  {
    heading: "What came just before a bad packet may be answered, or not",
    explains: ({ node, ours }) => isFatal(node) && isFatal(ours) && ends(node) === ends(ours),
  },
  {
    heading: "A placeholder that numbers no attachment is no packet",
    explains: (differs) => sent(differs).some((packet) => /"num":0\.5/.test(packet)) && ends(differs.node) === "" && isFatal(differs.ours),
  },
  {
    heading: "A poll that is dropped before it was looked at has not been sent",
    explains: ({ step, ours }) => step.do === "abort get" && ours.still === "open",
  },
  {
    heading: "A number beyond 64 bits is no number of an event",
    explains: (differs) => sent(differs).some((packet) => /9{20}\[/.test(packet)) && isFatal(differs.ours),
  },
  {
    heading: "A space is no number of an event",
    goesOn: true,
    explains: (differs) => sent(differs).some((packet) => / \["echo"\]$/.test(packet)) && differs.node.seen?.some((packet) => /^43.*0\[\]$/.test(packet)),
  },
  {
    heading: "A pong may pass messages",
    goesOn: true,
    explains: (differs, { revision }) => revision === 3 && sameButForPackets(differs, (theirs, seen) => isDeepStrictEqual(pongsFirst(theirs), pongsFirst(seen))),
  },
  {
    heading: "A namespace that is no address is an unknown one",
    explains: (differs, { revision }) => revision === 3 && sent(differs).some((packet) => packet.startsWith("40//")) && isFatal(differs.node),
  },
  {
    heading: "A close packet over WebSocket ends the session",
    explains: (differs) => sent(differs).includes("1") && differs.ours.seen?.at(-1)?.end === "1005",
  },
  {
    heading: "An unsupported revision is refused before the upgrade",
    explains: ({ step, node, ours }) => step.do === "websocket" && ends(node) === "1006" && ends(ours).includes("Unsupported protocol version"),
  },
  {
    heading: "A namespace may be left and entered again in one breath",
    explains: (differs) => /^41/.test(sent(differs)[0]) && /^40/.test(sent(differs)[1]) && ends(differs.node) !== "" && ends(differs.ours) === "",
  },
  {
    heading: "A WebSocket for the session of another WebSocket is ended at once",
    explains: ({ node, ours }) => isDeepStrictEqual(node.rival, [{ open: true }]) && ours.rival?.at(-1)?.end !== undefined,
  },
];

/** The difference that explains what was seen, if one does. */
export function reasonFor(differs, script) {
  return DIFFERENCES.find((difference) => difference.explains(differs, script));
}
