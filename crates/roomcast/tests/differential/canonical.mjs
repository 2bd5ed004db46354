// What Socket.IO packets mean, whatever way they are written: JSON as the Node server would write it, with attachments in their places.

const PACKET = /^4([0-6])(?:(\d+)-)?((?:\/[^,]*,)?)(\d*)(.*)$/s;

/** The packets of an observation, each with its attachments in place; what is none stays as it is. */
export function meanings(packets) {
  const found = [];
  for (let at = 0; at < packets.length; at += 1) {
    const parts = typeof packets[at] === "string" && PACKET.exec(packets[at]);
    if (!parts) {
      found.push(packets[at]);
      continue;
    }
    const [, type, count = 0, namespace, id, json] = parts;
    const attachments = packets.slice(at + 1, at + 1 + Number(count));
    at += attachments.length;
    found.push(`${Number(count) > 0 ? Number(type) - 3 : type} ${namespace} ${id} ${meaning(json, attachments)}`);
  }
  return found;
}

/** Whether any packet has attachments. */
export const haveAttachments = (packets) => packets.some((packet) => typeof packet === "string" && /^4[56]/.test(packet));

function meaning(json, attachments) {
  try {
    return JSON.stringify(JSON.parse(json, (_, value) => (value?._placeholder === true && attachments[value.num] !== undefined ? attachments[value.num] : value)));
  } catch {
    return json;
  }
}
