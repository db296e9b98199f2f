;;; rlm-trajectory-stream.el --- Draw what has come of a run, and tell its end  -*- lexical-binding: t; -*-

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

;; What waits is drawn; then those who follow the end of the buffer are moved
;; there.  The end of a run is told to those who want to know.

;;; Code:

(require 'cl-lib)
(require 'org)
(require 'org-element)
(require 'rlm-draw)
(require 'rlm-draw-run)
(require 'rlm-header)
(require 'rlm-node)
(require 'rlm-node-parts)
(require 'rlm-notify)
(require 'rlm-reader)
(require 'rlm-restore)
(require 'rlm-run)
(require 'rlm-trajectory-queue)
(require 'rlm-transcript)

(defcustom rlm-after-run-functions nil
  "Functions called when a run has ended, in its buffer.
Each gets the run, an `rlm-run': see `rlm-run-status', `rlm-run-answer',
`rlm-run-evidence', `rlm-run-transcript' and the like."
  :group 'rlm
  :type 'hook
  :package-version '(rlm . "0.1.0"))

;;;; Drawing

(defun rlm-trajectory--flush (buffer deadline)
  "Draw what waits for BUFFER until DEADLINE, nil: to the end.
Return non-nil if nothing is left."
  (with-current-buffer buffer
    (rlm-trajectory--drawing
     (lambda ()
       (while (and (rlm-trajectory--next)
                   (or (null deadline) (< (float-time) deadline)))
         (rlm-trajectory--draw-safely (pop rlm-trajectory--queue)))))
    (unless (rlm-trajectory--next)
      (rlm-restore-drawn)
      (run-hooks 'rlm-trajectory-drawn-hook)
      t)))

(defvar rlm-trajectory-drawn-hook nil
  "Hook run in a run's buffer when all that has come of it is drawn.")

(defun rlm-trajectory-amend (function)
  "Call FUNCTION, which draws in this buffer what is not of its run's log."
  (rlm-trajectory--drawing function))

(defun rlm-trajectory--drawing (function)
  "Call FUNCTION, which draws in the current buffer.
Then move those who follow the end, and nobody else."
  (let* ((inhibit-read-only t)
         (top (rlm-trajectory--top))
         (followers (rlm-trajectory--followers))
         (rlm-reader-all (rlm-trajectory--readers followers)))
    (save-excursion
      (save-restriction
        (widen)
        (funcall function)
        (rlm-node-show-rests)
        (rlm-node-show-properties)))
    (when top
      (save-excursion
        (rlm-reader-release top)
        (narrow-to-region (point) (point-max))))
    (mapc #'rlm-reader-release rlm-reader-all)
    (set-buffer-modified-p nil)
    (rlm-trajectory--move followers)
    (rlm-trajectory--move-who-left)
    (rlm-header-update)))

(defun rlm-trajectory--draw-safely (event)
  "Draw EVENT; an error is told and does not stop the rest."
  (condition-case problem
      (let ((live (rlm-run-live-p rlm-run-current))
            (waiting (rlm-run-waiting rlm-run-current)))
        (rlm-draw event)
        (when (and (rlm-run-waiting rlm-run-current) (not waiting)
                   (> (plist-get event :seq) rlm-trajectory--replayed))
          (rlm-notify-waiting rlm-run-current (current-buffer)))
        (when (= (plist-get event :seq) rlm-trajectory--replayed)
          (rlm-trajectory--end-of-replay))
        (cond ((and live (not (rlm-run-live-p rlm-run-current)))
               (rlm-trajectory--finish rlm-run-current))
              ((and (not live) (rlm-run-live-p rlm-run-current))
               (rlm-trajectory--go-on))
              ((and (not live) (equal (plist-get event :kind) "runEnded"))
               (rlm-trajectory--save-again event))))
    (error (message "rlm: event %s (%s) can't be drawn: %s" (plist-get event :seq)
                    (plist-get event :kind) (error-message-string problem)))))

;;;; Following the end

(defvar-local rlm-trajectory-follow t
  "Whether windows whose point is at the end stay there.")

(defvar-local rlm-trajectory--arrived nil
  "Non-nil just after the run has ended, when followers go to the answer.")

(defun rlm-trajectory--followers ()
  "Return the windows that follow the end; t stands for the buffer itself."
  (when rlm-trajectory-follow
    (append (and (= (point) (point-max)) '(t))
            (seq-filter (lambda (window) (= (window-point window) (point-max)))
                        (get-buffer-window-list nil nil t)))))

(defun rlm-trajectory--readers (followers)
  "Return the readers that are none of FOLLOWERS."
  (append (unless (memq t followers)
            (list (rlm-reader-make nil)))
          (mapcar #'rlm-reader-make
                  (seq-difference (get-buffer-window-list nil nil t) followers #'eq))))

(defun rlm-trajectory--top ()
  "Return a reader where the part begins to which this buffer is narrowed, or nil.
What stands before that part grows there."
  (when (buffer-narrowed-p)
    (save-excursion
      (goto-char (point-min))
      (rlm-reader-make nil))))

(defun rlm-trajectory--move (followers)
  "Move FOLLOWERS to the end, or to the answer if the run has just ended."
  (let* ((node (and rlm-trajectory--arrived rlm-node-table
                    (gethash "answer" rlm-node-table)))
         (target (if node (marker-position (rlm-node-start node)) (point-max))))
    (setq rlm-trajectory--arrived nil)
    (dolist (follower followers)
      (if (eq follower t)
          (goto-char target)
        (set-window-point follower target)
        (when node
          (set-window-start follower target t))))))

(defun rlm-trajectory--move-who-left ()
  "Let windows that have shown this buffer come back to its point.
That has gone on with the run, and what they keep has not."
  (unless (get-buffer-window nil t)
    (walk-windows
     (lambda (window)
       (pcase-dolist (`(,buffer ,_ ,place . ,_)
                      (cons (nth 1 (window-parameter window 'quit-restore))
                            (window-prev-buffers window)))
         (when (and (eq buffer (current-buffer)) (markerp place))
           (set-marker place (point)))))
     'no-minibuffer t)))

;;;; The end of a run

(defvar rlm-trajectory-end-function #'ignore
  "Function called without arguments when a run has ended, or goes on after that.")

(defun rlm-trajectory--go-on ()
  "Prepare for further events of a run that had ended."
  (rlm-trajectory--colour-code nil)
  (rlm-header-start-clock)
  (rlm-header-count)
  (funcall rlm-trajectory-end-function))

(defun rlm-trajectory--save-again (event)
  "Save the transcript once more, unless EVENT, an end, is of a replay.
Since the last end, the user has run code."
  (when (> (plist-get event :seq) rlm-trajectory--replayed)
    (rlm-trajectory-save)))

(defun rlm-trajectory--end-of-replay ()
  "Draw the end of a replayed run whose log has none."
  (when (rlm-run-live-p rlm-run-current)
    (rlm-draw-interruption
     "The log of this run has no end: its server died, or was killed.")))

(defun rlm-trajectory--finish (run)
  "Save the transcript of RUN and tell those who want to know that it has ended."
  (setq rlm-trajectory--arrived t)
  (rlm-header-count)
  (rlm-trajectory--colour-code t)
  (funcall rlm-trajectory-end-function)
  (if (<= (max 0 rlm-trajectory--seq) rlm-trajectory--replayed) ; a live run replays nothing, -1
      (setf (rlm-run-transcript run) (rlm-transcript-saved run))
    (rlm-trajectory-save)
    (run-hook-wrapped 'rlm-after-run-functions #'rlm-trajectory--call-hook run)
    (rlm-notify run (current-buffer))))

(defun rlm-trajectory--colour-code (on)
  "Fontify code as its language has it if ON, and let Org keep its cache.
Both cost too much while text streams in."
  (setq-local org-src-fontify-natively on)
  (setq-local org-element-use-cache (and on (default-value 'org-element-use-cache)))
  (when on
    (when org-element-use-cache
      (org-element-cache-reset))
    (font-lock-flush)))

(defun rlm-trajectory--call-hook (function run)
  "Call FUNCTION with RUN; an error is told, and the others are called."
  (save-excursion
    (condition-case problem
        (funcall function run)
      (error (message "rlm: error in `rlm-after-run-functions': %s"
                      (error-message-string problem)))))
  nil)

(defun rlm-trajectory-interrupt (buffer reason)
  "Draw in BUFFER that its run was interrupted, and REASON, a sentence."
  (rlm-trajectory-flush buffer)
  (with-current-buffer buffer
    (when (rlm-run-live-p rlm-run-current)
      (rlm-trajectory--drawing
       (lambda ()
         (rlm-draw-interruption reason)
         (rlm-trajectory--finish rlm-run-current))))))

(defun rlm-trajectory-fail (buffer text)
  "Draw in BUFFER that its question could not be asked, and why: TEXT."
  (with-current-buffer buffer
    (rlm-trajectory--drawing (lambda () (rlm-draw-failure text)))))

(defun rlm-trajectory-say (buffer text)
  "Let the header line of BUFFER say TEXT until something else happens."
  (with-current-buffer buffer
    (setf (rlm-run-doing rlm-run-current) text)
    (rlm-header-update)))

(provide 'rlm-trajectory-stream)
;;; rlm-trajectory-stream.el ends here
