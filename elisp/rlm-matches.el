;;; rlm-matches.el --- Collect what lists of matches lead to  -*- lexical-binding: t; -*-

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

;; The files and buffers in which grep, xref or occur has found something, or
;; that the messages of a compilation name, as items of a collection.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'rlm-collection)
(require 'rlm-context)
(require 'rlm-item)

(eval-when-compile
  (require 'compile))

(declare-function compilation--ensure-parse "compile" (limit))
(declare-function xref-item-location "xref" (item))
(declare-function xref-location-group "xref" (location))
(declare-function xref-location-marker "xref" (location))

(defun rlm-add-matches ()
  "Return the files and buffers in which this list of matches leads."
  (when-let ((places (cond ((derived-mode-p 'grep-mode) (rlm-matches--compilation-places))
                           ((derived-mode-p 'xref--xref-buffer-mode) (rlm-matches--xref-places))
                           ((derived-mode-p 'occur-mode) (rlm-matches--occur-places)))))
    (rlm-matches--items places "match" "matches")))

(defun rlm-matches--items (places one many)
  "Return PLACES, a list of files and buffers with repetitions, as items.
Why they are there says how often; ONE and MANY are the nouns for it."
  (let ((name (buffer-name)))
    (mapcan (pcase-lambda (`(,place . ,all))
              (let ((why (format "%d %s in %s" (length all)
                                 (if (cdr all) many one) name)))
                (if (bufferp place)
                    (rlm-items-of-buffers (list place) why)
                  (and (file-exists-p place) (list (rlm-item-of-file place why))))))
            (seq-group-by #'identity places))))

(defun rlm-matches--property-values (property)
  "Return the values of the text PROPERTY in the current buffer, one for each run."
  (save-excursion
    (save-restriction
      (widen)
      (let ((position (point-min)) values)
        (while (< position (point-max))
          (when-let ((value (get-text-property position property)))
            (push value values))
          (setq position (next-single-property-change position property nil (point-max))))
        (nreverse values)))))

(defun rlm-matches--compilation-places ()
  "Return the files that the messages of this compilation buffer name."
  (compilation--ensure-parse (point-max))
  (delq nil (mapcar #'rlm-matches--message-file
                    (delete-consecutive-dups
                     (rlm-matches--property-values 'compilation-message)))))

(defun rlm-matches--message-file (message)
  "Return the file that MESSAGE of a compilation is about."
  (when-let* ((location (compilation--message->loc message))
              (file (compilation--loc->file-struct location))
              (spec (compilation--file-struct->file-spec file))
              (name (car spec)))
    (and (stringp name)
         (expand-file-name name (if (cadr spec)
                                    (expand-file-name (cadr spec))
                                  default-directory)))))

(defun rlm-matches--xref-places ()
  "Return the files and buffers that this list of references names."
  (mapcar (lambda (item)
            (let* ((location (xref-item-location item))
                   (group (xref-location-group location)))
              (if (and (file-name-absolute-p group) (file-exists-p group))
                  group
                (rlm-matches--buffer-place (marker-buffer (xref-location-marker location))))))
          (rlm-matches--property-values 'xref-item)))

(defun rlm-matches--occur-places ()
  "Return the files and buffers whose lines are in this Occur buffer."
  (mapcan (lambda (target)
            (let ((marker (if (consp target) (caar target) target)))
              (and (markerp marker) (marker-buffer marker)
                   (list (rlm-matches--buffer-place (marker-buffer marker))))))
          (delete-consecutive-dups (rlm-matches--property-values 'occur-target))))

(defun rlm-matches--buffer-place (buffer)
  "Return the file that BUFFER visits, if it can be read as it is, else BUFFER."
  (let ((file (buffer-file-name buffer)))
    (if (and file (rlm-context-plain-p file)) (expand-file-name file) buffer)))

(defun rlm-add-compilation ()
  "Return the output of a compilation, and the files that it names."
  (when (derived-mode-p 'compilation-mode)
    (cons (rlm-item-of-text (buffer-substring-no-properties (point-min) (point-max))
                            (buffer-name) (concat "rlm-buffer:" (buffer-name))
                            "output of a compilation")
          (rlm-matches--items (rlm-matches--compilation-places) "message" "messages"))))

(provide 'rlm-matches)
;;; rlm-matches.el ends here
