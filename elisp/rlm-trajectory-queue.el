;;; rlm-trajectory-queue.el --- Collect the events of runs until it is time to draw them  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; `rlm-trajectory-push' gives a buffer an event.  One timer has what waits
;; drawn, a bounded time at once.  This file knows no process and no
;; connection.

;;; Code:

(require 'cl-lib)
(require 'rlm)
(require 'rlm-run)

(declare-function rlm-trajectory--flush "rlm-trajectory-stream" (buffer deadline))

(defcustom rlm-flush-seconds 0.1
  "Seconds for which events are collected before they are drawn.
It is longer while so many come that nobody can read along, and for buffers
that are not on show."
  :group 'rlm
  :type 'rlm-amount
  :package-version '(rlm . "0.1.0"))

;;;; Events that wait

(defvar-local rlm-trajectory--queue nil
  "Events that wait to be drawn, oldest first.")

(defvar-local rlm-trajectory--incoming nil
  "Events that have come in since, newest first.")

(defvar-local rlm-trajectory--waited 0
  "For how many seconds events are collected now.")

(defvar-local rlm-trajectory--rate 0
  "How many events a second had come in when they were drawn last.")

(defvar-local rlm-trajectory--seq -1
  "Number of the newest event that was taken.")

(defvar-local rlm-trajectory--replayed -1
  "Events up to this number are a replay of a run that has ended.
Nothing is saved, and no hook is run, when such a run ends.")

(defvar rlm-trajectory--timer (timer-create)
  "The one timer that draws.")

(defvar rlm-trajectory--dirty nil
  "Buffers with events that wait to be drawn.")

(defun rlm-trajectory-push (buffer event)
  "Let BUFFER draw EVENT, a plist, soon.
Return the number of the event that should have come first, if any did not
come; EVENT is dropped then, as it is if it has come before."
  (with-current-buffer buffer
    (let ((seq (plist-get event :seq)))
      (cond ((<= seq rlm-trajectory--seq) nil)
            ((> seq (max (1+ rlm-trajectory--seq) rlm-trajectory--replayed))
             (1+ rlm-trajectory--seq))
            (t (setq rlm-trajectory--seq seq) ; a damaged log has gaps
               (push event rlm-trajectory--incoming)
               (unless (memq buffer rlm-trajectory--dirty)
                 (rlm-trajectory--arm
                  buffer (setq rlm-trajectory--waited (rlm-trajectory--patience))))
               nil)))))

(defun rlm-trajectory-replaying-p (buffer)
  "Return non-nil while BUFFER draws a run that has ended."
  (with-current-buffer buffer
    (< rlm-trajectory--seq rlm-trajectory--replayed)))

(defun rlm-trajectory--next ()
  "Return the next event to be drawn, or nil."
  (unless rlm-trajectory--queue
    (when rlm-trajectory--incoming
      (setq rlm-trajectory--rate (/ (length rlm-trajectory--incoming)
                                    (max 0.01 rlm-trajectory--waited))))
    (setq rlm-trajectory--queue (rlm-trajectory--joined (nreverse rlm-trajectory--incoming))
          rlm-trajectory--incoming nil))
  (car rlm-trajectory--queue))

;;;; Pieces that are one

(defconst rlm-trajectory--most-joined 8000
  "Events with more characters than this are not joined.")

(defun rlm-trajectory--joined (events)
  "Return EVENTS with pieces of the same text that follow each other as one.
To insert often costs more than to insert much."
  (let (joined)
    (while events
      (let* ((event (pop events))
             (texts (and (rlm-trajectory--joinable-p event)
                         (list (plist-get event :text))))
             (size (if texts (length (car texts)) 0)))
        (while (and texts events
                    (rlm-trajectory--same-text-p event (car events))
                    (< size rlm-trajectory--most-joined))
          (setq event (pop events)
                size (+ size (length (plist-get event :text))))
          (push (plist-get event :text) texts))
        (push (if (cdr texts)
                  (plist-put (copy-sequence event) :text (apply #'concat (nreverse texts)))
                event)
              joined)))
    (nreverse joined)))

(defun rlm-trajectory--joinable-p (event)
  "Return non-nil if EVENT is one piece of a longer text."
  (member (plist-get event :kind) '("replyDelta" "output" "subcallDelta" "childDelta")))

(defun rlm-trajectory--same-text-p (one two)
  "Return non-nil if the event TWO continues the text of ONE."
  (seq-every-p (lambda (key) (equal (plist-get one key) (plist-get two key)))
               '(:kind :node :part :cell :stream)))

;;;; When they are drawn

(defconst rlm-trajectory--slice 0.008
  "Seconds for which one buffer is drawn at once.")

(defconst rlm-trajectory--flood 40
  "More events a second than this are more than anybody reads.
A model that writes as fast as it can makes half as many, for the server
joins small pieces.")

(defun rlm-trajectory--patience ()
  "Return for how many seconds the events of the current buffer are collected.
Most of what drawing costs is to show it, whether it is much or little."
  (* rlm-flush-seconds
     (if (or (> rlm-trajectory--rate rlm-trajectory--flood)
             (not (get-buffer-window nil 'visible)))
         5
       1)))

(defun rlm-trajectory--arm (buffer seconds)
  "Let BUFFER be drawn in SECONDS, or sooner."
  (cl-pushnew buffer rlm-trajectory--dirty)
  (let ((time (time-add nil seconds))
        (active (memq rlm-trajectory--timer timer-list)))
    (unless (and active (time-less-p (timer--time rlm-trajectory--timer) time))
      (when active
        (cancel-timer rlm-trajectory--timer))
      (timer-set-function rlm-trajectory--timer #'rlm-trajectory--tick)
      (timer-set-time rlm-trajectory--timer time)
      (timer-activate rlm-trajectory--timer))))

(defun rlm-trajectory--tick ()
  "Draw what waits, for a bounded time; the rest is drawn a little later."
  (let ((buffers (seq-filter #'buffer-live-p rlm-trajectory--dirty)))
    (setq rlm-trajectory--dirty nil)
    (dolist (buffer buffers)
      (unless (rlm-trajectory--flush buffer (+ (float-time) rlm-trajectory--slice))
        (push buffer rlm-trajectory--dirty)))
    (when rlm-trajectory--dirty
      (rlm-trajectory--arm (car rlm-trajectory--dirty) 0.01))))

(defun rlm-trajectory-flush (buffer)
  "Draw everything that waits for BUFFER, now."
  (rlm-trajectory--flush buffer nil)
  (setq rlm-trajectory--dirty (delq buffer rlm-trajectory--dirty)))

(provide 'rlm-trajectory-queue)
;;; rlm-trajectory-queue.el ends here
